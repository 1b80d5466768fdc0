"""`evaluation=paper` in small: every published file name and layout, none of the texts."""

import json
from pathlib import Path

import yaml
from commands import run
from support import TINY, by_axes

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
