"""`evaluation=paper` in small: published file names, layouts and flaws, none of the texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytrec_eval
import yaml
from commands import run
from support import TINY, by_axes
from trec import mapping, read_trec

from lion_sweep.config import config_folder
from lion_sweep.data import pydoc
from lion_sweep.data.collection import write

PAPER = yaml.safe_load((config_folder() / "evaluation" / "paper.yaml").read_text(encoding="utf-8"))
BEIR = [name for name, chosen in PAPER["sets"].items() if chosen.get("group") == "beir"]


def marco(folder: Path, pairs: list[tuple[str, str]]) -> None:
    """MS MARCO's and TREC's files: 40 passages, 30 training queries, 5 for each test set."""
    folder.mkdir()
    passages = "".join(f"{number}\t{passage}\n" for number, (_, passage) in enumerate(pairs))
    (folder / "collection.tsv").write_text(passages.replace("\n\n", "\n"), encoding="utf-8")

    def queries(name: str, numbers: range) -> None:
        lines = "".join(f"{1000 + number}\t{pairs[number][0]}\n" for number in numbers)
        (folder / name).write_text(lines, encoding="utf-8")

    def qrels(name: str, numbers: range, grade: int, between: str) -> None:
        rows = ((str(1000 + n), between, str(n), str(grade)) for n in numbers)
        separator = "\t" if name.endswith(".tsv") else " "
        (folder / name).write_text("".join(separator.join(row) + "\n" for row in rows))

    for names, numbers, grade, between in (
        (("queries.train.tsv", "qrels.train.tsv"), range(30), 1, "0"),
        (("queries.dev.small.tsv", "qrels.dev.small.tsv"), range(30, 35), 1, "0"),
        (("msmarco-test2019-queries.tsv", "2019qrels-pass.txt"), range(35, 40), 3, "Q0"),
        (("msmarco-test2020-queries.tsv", "2020qrels-pass.txt"), range(30, 35), 1, "0"),
    ):
        queries(names[0], numbers)
        qrels(names[1], numbers, grade, between)


def test_every_set_of_the_paper_is_scored_under_its_name(tmp_path: Path) -> None:
    assert len(BEIR) == 13 and len(PAPER["sets"]) == 15
    pairs = [
        (query, " ".join(passage.split()))
        for query, passage in pydoc.collect(["json", "logging", "email"])[:60]
    ]
    marco(tmp_path / "marco", pairs[:40])
    for name in BEIR:
        write(tmp_path / "beir" / name, {"test": pairs[40:]})
    words = [word for word in TINY if not word.startswith("data")]
    words += ["data=msmarco", f"data.path={tmp_path / 'marco'}", "evaluation=paper"]
    words += [f"paths.beir={tmp_path / 'beir'}", f"paths.root={tmp_path / 'out'}"]
    words += ["budget=steps", "budget.steps=2", "paradigm=dense", "site=laptop", "loss=cl"]
    done = run("lion_sweep", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = by_axes(tmp_path / "out").values()
    assert list(result["scores"]) == ["msmarco", *PAPER["sets"]]
    assert set(result["scores"]["msmarco"]) == set(PAPER["measures"])
    graded = result["scores"]["trec-dl-2019"]
    assert set(graded) == {"nDCG@10", "MRR@10(rel=2)", "Recall@100(rel=2)", "Recall@1000(rel=2)"}
    assert graded["Recall@1000(rel=2)"] == 1  # 40 passages
    # All judgements of the 2020 stand-in are of grade 1: nothing is relevant at grade 2.
    assert result["scores"]["trec-dl-2020"]["Recall@1000(rel=2)"] == 0
    # The thirteen stand-ins hold the same texts, MS MARCO's three sets too: two corpora in all.
    encoded = {
        stage["folder"]
        for title, stage in result["stages"].items()
        if title.startswith("encode passages")
    }
    assert len(encoded) == 2
    report = run("lion_sweep.report", "--root", str(tmp_path / "out"))
    assert "mean of beir (13)" in report.stdout, report.stderr
    scores = json.loads((tmp_path / "out" / "reports" / "scaling" / "scaling.json").read_text())
    assert {part["collection"] for part in scores} == set(result["scores"])


def test_a_set_that_is_missing_is_named_before_anything_runs(tmp_path: Path) -> None:
    pairs = [(query, " ".join(text.split())) for query, text in pydoc.collect(["json", "email"])]
    marco(tmp_path / "marco", pairs[:40])
    words = ["data=msmarco", f"data.path={tmp_path / 'marco'}", "evaluation=paper", "site=laptop"]
    words += [f"paths.beir={tmp_path / 'beir'}", f"paths.root={tmp_path / 'out'}", "tracking=none"]
    done = run("lion_sweep", *words)
    assert done.returncode == 2
    assert f"{tmp_path / 'beir' / 'arguana'} is not a folder, a .zip, or a" in done.stderr
    assert not list(tmp_path.glob("out/cells/*"))


Qrels = list[tuple[str, str, int]]


class Published:
    """A collection in BEIR format, to be given the flaws of a published one."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.passages = {f"d{number}": passage for number, (_, passage) in enumerate(pairs)}
        self.queries = {f"q{number}": query for number, (query, _) in enumerate(pairs)}
        self.qrels: Qrels = [(f"q{number}", f"d{number}", 1) for number in range(len(pairs))]

    def renamed(self, passage: Callable[[str], str], query: Callable[[str], str]) -> None:
        self.passages = {passage(name): text for name, text in self.passages.items()}
        self.queries = {query(name): text for name, text in self.queries.items()}
        self.qrels = [(query(q), passage(d), grade) for q, d, grade in self.qrels]

    def write(self, folder: Path) -> None:
        (folder / "qrels").mkdir(parents=True)
        for name, held in (("corpus", self.passages), ("queries", self.queries)):
            lines = (json.dumps({"_id": i, "text": text}) + "\n" for i, text in held.items())
            (folder / f"{name}.jsonl").write_text("".join(lines))
        rows = "".join(f"{q}\t{d}\t{grade}\n" for q, d, grade in self.qrels)
        (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")


def arguana(it: Published) -> dict[str, Any]:
    """Queries are passages under the same ids; a counter-argument that is judged is not there."""
    it.renamed(lambda d: f"test-con{d[1:]}b", lambda q: f"test-con{q[1:]}a")
    it.passages |= it.queries
    it.qrels[3] = ("test-con3a", "test-con99b", 1)
    return {"test judgements": {"missing_passages": 1}}


def nfcorpus(it: Published) -> dict[str, Any]:
    """Queries of the judgements are not among the queries; many passages are relevant to one."""
    it.renamed(lambda d: f"MED-{d[1:]}", lambda q: f"PLAIN-{q[1:]}")
    it.qrels += [("PLAIN-2000", "MED-1", 2), ("PLAIN-3000", "MED-2", 1), ("PLAIN-1", "MED-5", 2)]
    return {"test judgements": {"missing_queries": 2}}


def trec_covid(it: Published) -> dict[str, Any]:
    """Grades from -1 to 2; passages of nothing, and some that repeat others."""
    it.renamed(lambda d: f"{d}x8", lambda q: q[1:])
    it.passages |= {"empty": "", "blank": " ", "again": it.passages["d1x8"]}
    it.qrels += [("1", "d2x8", -1), ("1", "again", 2), ("2", "empty", 1), ("3", "d4x8", 0)]
    return {"passages": {"empty": 2, "repeated": 1}}


def touche(it: Published) -> dict[str, Any]:
    """Ids with times of the day, grades from -2; of a query, nothing is relevant."""
    it.renamed(lambda d: f"{d}-2019-04-18T11:28:59Z-00001-000", lambda q: q[1:])
    passages = list(it.passages)
    it.qrels[7] = ("7", passages[7], -2)
    it.qrels += [("7", passages[8], 0), ("1", passages[3], 4), ("1", passages[4], -2)]
    return {"test judgements": {"nothing_relevant": 2}}


def dbpedia(it: Published) -> dict[str, Any]:
    """Ids of brackets, quotes, '#' and other alphabets."""
    it.renamed(lambda d: f'<dbpedia:{d}_(\u96ea)#"x">', lambda q: f"INEX_LD-{q[1:]}")
    return {}


def climate_fever(it: Published) -> dict[str, Any]:
    """A pair is judged again, with the same grade and with others."""
    it.qrels += [("q1", "d1", 1), ("q2", "d2", 0), ("q3", "d4", 0), ("q3", "d4", 2)]
    return {"test judgements": {"judged_twice": 3}}


def fiqa(it: Published) -> dict[str, Any]:
    """Half a character, in a passage and in a query."""
    it.passages["d1"] += " \ud83d"
    it.queries["q2"] += " \ude00"
    return {"passages": {"mended": 1}, "queries": {"mended": 1}}


FLAWED = {
    "arguana": arguana,
    "climate-fever": climate_fever,
    "dbpedia-entity": dbpedia,
    "fiqa": fiqa,
    "nfcorpus": nfcorpus,
    "trec-covid": trec_covid,
    "webis-touche2020": touche,
}


def flawed_marco(folder: Path, pairs: list[tuple[str, str]]) -> dict[str, Qrels]:
    """MS MARCO's files with the flaws of TREC's; the judgements of the three test sets."""
    marco(folder, pairs)
    with (folder / "qrels.train.tsv").open("a") as lines:
        lines.write("1001\t0\t1\t1\n1002\t0\t777\t1\n1003\t0\t4\t1\n")
    with (folder / "msmarco-test2019-queries.tsv").open("a") as lines:
        lines.write("5000\tnobody judged what this finds\n")
    more = [("1035", "36", 2), ("1035", "888", 3), ("1036", "0", 0), ("6000", "1", 3)]
    with (folder / "2019qrels-pass.txt").open("a") as lines:
        lines.write("".join(f"{q} Q0 {d} {grade}\n" for q, d, grade in more))
    return {
        "msmarco": [(str(1000 + n), str(n), 1) for n in range(30, 35)],
        "trec-dl-2019": [(str(1000 + n), str(n), 3) for n in range(35, 40)] + more,
        "trec-dl-2020": [(str(1000 + n), str(n), 1) for n in range(30, 35)],
    }


def by_trec_eval(path: Path, judged: Qrels, measure: str) -> dict[str, float]:
    """A measure per query of a run file, over the queries that something is relevant to."""
    qrels: dict[str, dict[str, int]] = {}
    for query, passage, grade in judged:
        before = qrels.setdefault(query, {})
        before[passage] = max(grade, before.get(passage, grade))
    name, _, level = measure.removesuffix(")").partition("(rel=")
    kind, _, depth = name.partition("@")
    # trec_eval orders ties the other way: ranks in place of scores.
    ranked = {
        query: {d: -float(rank) for rank, (d, _) in enumerate(hits)}
        for query, hits in mapping(read_trec(path)).items()
    }
    if kind == "MRR":
        ranked = {q: dict(list(hits.items())[: int(depth)]) for q, hits in ranked.items()}
    called = {"nDCG": f"ndcg_cut_{depth}", "MRR": "recip_rank", "Recall": f"recall_{depth}"}[kind]
    told = pytrec_eval.RelevanceEvaluator(qrels, {called}, relevance_level=int(level or 1))
    found = told.evaluate(ranked)
    return {
        query: found.get(query, {}).get(called, 0.0)
        for query, grades in qrels.items()
        if max(grades.values()) > 0
    }


def test_published_flaws_are_scored_as_trec_eval_scores_them(tmp_path: Path) -> None:
    pairs = [
        (query, " ".join(passage.split()))
        for query, passage in pydoc.collect(["json", "logging", "email"])[:60]
    ]
    judged, expected = flawed_marco(tmp_path / "marco", pairs[:40]), {}
    for name in BEIR:
        it = Published(pairs[40:])
        expected[name] = FLAWED[name](it) if name in FLAWED else {}
        it.write(tmp_path / "beir" / name)
        judged[name] = [one for one in it.qrels if one[0] in it.queries]
    judged["trec-dl-2019"].remove(("6000", "1", 3))
    expected["trec-dl-2019"] = {"test judgements": {"missing_passages": 1, "missing_queries": 1}}
    expected["msmarco"] = {"train judgements": {"judged_twice": 1, "missing_passages": 1}}
    words = [word for word in TINY if not word.startswith("data")]
    words += ["data=msmarco", f"data.path={tmp_path / 'marco'}", "evaluation=paper"]
    words += [f"paths.beir={tmp_path / 'beir'}", f"paths.root={tmp_path / 'out'}"]
    words += ["budget=steps", "budget.steps=2", "paradigm=sparse", "site=laptop", "loss=cl"]
    done = run("lion_sweep", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = by_axes(tmp_path / "out").values()
    held = {
        name: {
            part: found
            for part, flaws in of_set["flaws"].items()
            if (found := {flaw: count for flaw, count in flaws.items() if count})
        }
        for name, of_set in result["collections"].items()
    }
    assert held == {name: expected.get(name, {}) for name in ["msmarco", *PAPER["sets"]]}
    assert result["groups"] == {"pairs": 31, "missing_positives": 1, "without_negatives": 0}
    for said in (
        "31 training groups; 1 have a positive that is not there, and are left out\n",
        "of its test judgements, 1 name a passage that is not there, which is never found, 1 name "
        "a query that is not there, and are left out\n",
        "of its train judgements, 1 judge a pair again, of which the highest grade counts, 1 name "
        "a passage that is not there, which is never found\n",
        "of its passages, 2 are empty, 1 repeat another\n",
        "of its queries, 1 held half a character, which is U+FFFD now\n",
        "of its test judgements, 2 are of queries without a relevant passage, and are left out\n",
    ):
        assert done.stdout.count(said) == 1, said
    cell = tmp_path / "out" / "cells" / result["id"]
    for name, of_set in judged.items():
        per_query = json.loads((cell / "per_query" / f"{name}.json").read_text())
        for measure, values in per_query.items():
            reference = by_trec_eval(cell / "runs" / f"{name}.trec", of_set, measure)
            assert values == pytest.approx(reference, abs=1e-9), (name, measure)
            mean = sum(reference.values()) / len(reference)
            assert result["scores"][name][measure] == pytest.approx(mean, abs=1e-9)
    found = mapping(read_trec(cell / "runs" / "arguana.trec"))
    assert all(query not in dict(hits) for query, hits in found.items())
    assert (
        json.loads((cell / "per_query" / "arguana.json").read_text())["nDCG@10"]["test-con3a"] == 0
    )
