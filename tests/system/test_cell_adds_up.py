"""A finished cell's figures, each worked out again from its files; its plan; what a tracker hears.

The collection is one like ArguAna: its test queries are documents too. Shapes: N documents,
Q queries, V vocabulary entries.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import Shell, by_axes, teacher_encoder
from wandb_files import read_run

from lion_sweep.data import tokens
from lion_sweep.evaluation.significance import paired_randomisation
from lion_sweep.search.parts import Stored

Once = Callable[[str, Callable[[Path], object]], Path]
Result = dict[str, Any]

STEPS, DEPTH, PERMUTATIONS, SEED = 3, 15, 99, 7
NAME, OTHER, SHORT = "mine", "dev", 4
MEASURES = {NAME: ["nDCG@10", "MRR@10", "Recall@100"], OTHER: ["Recall@12", "MRR@14"]}
DOCUMENTS, TRAIN, TEST, DEV = 60, 24, range(20), range(20, 32)


def words() -> list[str]:
    """Made-up ones, of two syllables."""
    return [a + b for a in ("ka", "lo", "mi", "ru", "te") for b in ("bax", "dol", "fim", "gun")]


def collection(root: Path) -> None:
    """Test and dev queries are documents by id and text; another document is relevant to them."""
    rng = np.random.default_rng(5)
    known = words()
    held = [" ".join(rng.choice(known, rng.integers(4, 12))) for _ in range(DOCUMENTS)]
    corpus = {f"d{number}": text for number, text in enumerate(held)}
    asked = {f"q{n}": " ".join(held[n].split()[:3]) for n in range(TRAIN)}
    queries = asked | {f"d{n}": held[n] for n in (*TEST, *DEV)}
    (root / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (root / f"{name}.jsonl").write_text("\n".join(lines))
    qrels = {
        "train": [f"q{n}\td{n}\t1" for n in range(TRAIN)],
        "test": [f"d{n}\td{(n * 7 + 1) % DOCUMENTS}\t{1 + n % 2}" for n in TEST]
        + [f"d{n}\td{n + 30}\t1" for n in TEST],
        "dev": [f"d{n}\td{n + 1}\t1" for n in DEV],
    }
    for split, lines in qrels.items():
        (root / "qrels" / f"{split}.tsv").write_text("\n".join(lines))


def overrides(base: Path) -> list[str]:
    """A sparse and a dense cell whose training changes what is found."""
    return [
        "-m",
        "paradigm=sparse,dense",
        "loss=clkd",
        f"data.path={base / 'beir'}",
        f"data.name={NAME}",
        "teacher=minilm",
        f"teacher.scorers.encoder.model={base / 'encoder'}",
        "budget=steps",
        f"budget.steps={STEPS}",
        "recipe.learning_rate=0.01",
        "recipe.negative_depth=5",
        f"evaluation.depth={DEPTH}",
        f"evaluation.permutations={PERMUTATIONS}",
        f"+evaluation.sets.{OTHER}={{path: {base / 'beir'}, split: dev, group: pair, "
        f"query_length: {SHORT}, measures: {MEASURES[OTHER]}}}",
        f"seed={SEED}",
        "tracking=wandb",
        "tracking.project=lions",
        f"paths.root={base / 'out'}",
    ]


@pytest.fixture(scope="module")
def base(once: Once, laptop: Shell) -> Path:
    """Folder of the collection, the outputs, and the plan."""

    def make(base: Path) -> None:
        collection(base / "beir")
        teacher_encoder(base / "encoder", words())
        offline = {"WANDB_MODE": "offline"}
        shell = Shell(laptop.environment | offline, base / "beir")
        code, printed = shell.run(*overrides(base))
        assert code == 0, printed
        # Of a folder where nothing was done.
        elsewhere = [*overrides(base)[:-1], f"paths.root={base / 'plan'}", "plan.format=json"]
        code, printed = shell.run(*elsewhere, module="lion_sweep.plan")
        assert code == 0, printed
        (base / "plan.json").write_text(printed[printed.index("{\n") :])

    return once("adds_up", make)


@pytest.fixture(scope="module", params=["sparse", "dense"])
def cell(request: pytest.FixtureRequest, base: Path) -> tuple[Path, Result]:
    """(folder, result) of one of the cells."""
    result = by_axes(base / "out")[f"1b-{request.param}-clkd"]
    return base / "out" / "cells" / result["id"], result


def done(base: Path, result: Result, title: str) -> Path:
    """Folder of one of a cell's stages, by what the progress line calls it."""
    return base / "out" / "stages" / str(result["stages"][title]["folder"])


def facts(folder: Path) -> dict[str, Any]:
    """What a stage has remembered."""
    found: dict[str, Any] = json.loads((folder / "done.json").read_text())
    return found


def ranks(path: Path) -> dict[str, list[str]]:
    """Documents by query, of a TREC run, best first."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        query, _, document, rank, _, _ = line.split()
        found.setdefault(query, []).append(document)
        assert int(rank) == len(found[query])
    return found


def judged(base: Path, split: str) -> dict[str, dict[str, int]]:
    """Grades by query and document."""
    found: dict[str, dict[str, int]] = {}
    for line in (base / "beir" / "qrels" / f"{split}.tsv").read_text().splitlines():
        query, document, grade = line.split("\t")
        found.setdefault(query, {})[document] = int(grade)
    return found


def plain(measure: str, listed: list[str], grades: dict[str, int]) -> float:
    """nDCG with linear gain, reciprocal rank, recall."""
    name, depth = measure.split("@")
    gains = [grades.get(document, 0) for document in listed[: int(depth)]]
    if name == "nDCG":
        best = sorted(grades.values(), reverse=True)[: int(depth)]
        dcg, ideal = (
            sum(gain / math.log2(rank + 2) for rank, gain in enumerate(found))
            for found in (gains, best)
        )
        return dcg / ideal
    hits = [rank for rank, gain in enumerate(gains, start=1) if gain > 0]
    return (1 / hits[0] if hits else 0) if name == "MRR" else len(hits) / len(grades)


def scored(base: Path, run: Path, name: str) -> dict[str, dict[str, float]]:
    """Values by measure and query of a run on a collection."""
    found, grades = ranks(run), judged(base, "test" if name == NAME else "dev")
    return {
        measure: {query: plain(measure, found.get(query, []), own) for query, own in grades.items()}
        for measure in MEASURES[name]
    }


def means(values: dict[str, dict[str, float]]) -> Any:
    """By measure."""
    return pytest.approx({name: np.mean(list(found.values())) for name, found in values.items()})


def close(values: dict[str, dict[str, float]]) -> Any:
    """To compare values by measure and query with."""
    return {name: pytest.approx(found) for name, found in values.items()}


def test_scores_are_those_of_the_runs(base: Path, cell: tuple[Path, Result]) -> None:
    folder, result = cell
    assert list(result["scores"]) == list(result["bm25"]) == list(MEASURES)
    for name in MEASURES:
        values = scored(base, folder / "runs" / f"{name}.trec", name)
        per_query = json.loads((folder / "per_query" / f"{name}.json").read_text())
        assert per_query == close(values)
        assert result["scores"][name] == means(values)
        by_words = scored(base, done(base, result, f"search bm25 {name}") / "run.trec", name)
        reference = json.loads((folder / "per_query" / f"{name}.bm25.json").read_text())
        assert reference == close(by_words)
        assert result["bm25"][name] == means(by_words)
        assert by_words != values


def test_no_query_finds_itself(base: Path, cell: tuple[Path, Result]) -> None:
    folder, result = cell
    runs = [folder / "runs" / f"{name}.trec" for name in MEASURES]
    runs += [
        done(base, result, f"search {of}{NAME}") / "run.trec" for of in ("untrained ", "bm25 ")
    ]
    for run in runs:
        found = ranks(run)
        assert len(found) in (len(TEST), len(DEV))
        for query, listed in found.items():
            assert query not in listed
            assert 0 < len(listed) <= DEPTH
        assert max(map(len, found.values())) >= DEPTH - 1


def test_gain_is_what_training_changed(base: Path, cell: tuple[Path, Result]) -> None:
    folder, result = cell
    first = MEASURES[NAME][0]
    untrained = scored(base, done(base, result, f"search untrained {NAME}") / "run.trec", NAME)
    assert result["untrained"] == {NAME: means(untrained)}
    trained = scored(base, folder / "runs" / f"{NAME}.trec", NAME)
    after, before = (np.mean(list(values[first].values())) for values in (trained, untrained))
    gain = result["gain"][NAME]
    assert list(result["gain"]) == [NAME] and list(gain) == [first, "p"]
    assert after != before
    assert gain[first] == pytest.approx(after - before)
    p = paired_randomisation(trained[first], untrained[first], PERMUTATIONS, SEED)
    assert gain["p"] == p


def test_what_search_needs_is_that_of_the_vectors(base: Path, cell: tuple[Path, Result]) -> None:
    _, result = cell
    for name in MEASURES:
        passages, queries, search = (
            done(base, result, title)
            for title in (
                f"encode passages {name}",
                f"encode queries {name}",
                f"search {name}",
            )
        )
        told = result["efficiency"][name]
        seconds = [facts(stage)["seconds"] for stage in (passages, queries)]
        assert told["encode_seconds"] == pytest.approx(sum(seconds))
        assert told["search_seconds"] == facts(search)["seconds"]
        assert told["documents"] == DOCUMENTS
        vectors = [Stored(stage / "vectors").all() for stage in (queries, passages)]
        assert [v.shape[0] for v in vectors] == [len(TEST if name == NAME else DEV), DOCUMENTS]
        if result["axes"]["paradigm"] == "sparse":
            active_QV, active_NV = (v.toarray() > 0 for v in vectors)
            assert told["L0_queries"] == pytest.approx(active_QV.sum(axis=1).mean())
            assert told["L0_documents"] == pytest.approx(active_NV.sum(axis=1).mean())
            shared_QN = active_QV.astype(float) @ active_NV.astype(float).T
            assert told["flops"] == pytest.approx(shared_QN.mean())
            assert told["postings"] == active_NV.sum()
        else:
            assert "L0_documents" not in told and "flops" not in told


def test_equal_texts_are_encoded_and_counted_once(base: Path, cell: tuple[Path, Result]) -> None:
    _, result = cell
    spent = result["ledger"]["encode"]
    passages = done(base, result, "passage tokens")
    assert len(tokens.read(passages)) == DOCUMENTS
    count = int(tokens.read(passages).lengths(64).sum())
    for name, rows, length in ((NAME, TEST, 32), (OTHER, DEV, SHORT)):
        assert result["stages"].keys() >= {f"encode passages {name}", f"encode queries {name}"}
        cached = tokens.read(done(base, result, "query tokens"))
        # Queries of the training split come first in the file.
        count += int(cached.lengths(length)[TRAIN + rows.start : TRAIN + rows.stop].sum())
    assert spent["spent"] == spent["planned"]
    assert spent["spent"]["tokens"] == count


def test_what_a_cell_says_of_itself(base: Path, cell: tuple[Path, Result]) -> None:
    _, result = cell
    assert (result["seed"], result["data"], result["ladder"]) == (SEED, NAME, "proxy")
    assert result["site"] == "laptop" and result["precision"] in ("fp32", "bf16")
    sizes = {
        name: (held["documents"], held["queries"], held["group"])
        for name, held in result["collections"].items()
    }
    assert sizes == {
        NAME: (DOCUMENTS, len(TEST), None),
        OTHER: (DOCUMENTS, len(DEV), "pair"),
    }
    assert len({held["checksum"] for held in result["collections"].values()}) == 2
    assert result["teacher"]["scorers"]["encoder"]["model"] == str(base / "encoder")
    audit, scale = result["teacher_audit"], result["config"]["paradigm"]["teacher_scale"]
    score_RG = np.load(done(base, result, "teacher") / "scores.npy").astype(np.float64)
    power_RG = np.exp(scale * (score_RG - score_RG.max(axis=1, keepdims=True)))
    share_RG = power_RG / power_RG.sum(axis=1, keepdims=True)
    entropy = -(share_RG * np.log(np.maximum(share_RG, 1e-300))).sum(axis=1).mean()
    told = audit["targets"]["listwise_kl"]["entropy"]
    assert told == pytest.approx(entropy / np.log(score_RG.shape[1]))
    assert audit["inverted"] == pytest.approx((score_RG[:, 1:] > score_RG[:, :1]).mean())
    weights = load_file(done(base, result, "backbone") / "model.safetensors")
    assert "lm_head.weight" not in weights  # it is tied
    assert result["backbone"]["parameters"] == sum(array.size for array in weights.values())
    trained = facts(done(base, result, "train"))["facts"]
    assert result["device"]["train_seconds"] == trained["seconds"]
    assert result["device"]["count"] == 1


def test_the_plan_adds_up_to_what_was_spent(base: Path) -> None:
    """Row by row, what is shared, and in total; only how many tokens MNTP asks for is chance."""
    plan, cells = json.loads((base / "plan.json").read_text()), by_axes(base / "out")
    keys = ("useful_flops", "hardware_flops")
    total = dict.fromkeys(keys, 0)
    training = dict.fromkeys(keys, 0)

    def add(spent: dict[str, int], *totals: dict[str, int]) -> None:
        for key in keys:
            for summed in totals:
                summed[key] += spent[key]

    for row in plan["cells"]:
        ledger = cells["-".join(row["axes"].values())]["ledger"]
        for key in ("steps", "tokens", *keys):
            assert row[key] == ledger["train"]["spent"][key]
        assert row["encode_flops"] == ledger["encode"]["spent"]["useful_flops"]
        add(ledger["train"]["spent"], total, training)
        add(ledger["encode"]["spent"], total)
    shared = {work["title"].split(f" {NAME}")[0]: work for work in plan["shared"]}
    expected: dict[str, tuple[int, dict[str, int]]] = {}
    for name, result in cells.items():
        ledger, paradigm = result["ledger"], name.split("-")[1]
        expected["adapt 1b on"] = 2, ledger["adapt"]["planned"]
        expected["teacher minilm on"] = 2, ledger["teacher"]["spent"]
        parts = [
            facts(done(base, result, f"encode untrained {what} {NAME}"))["facts"]["spent"]
            for what in ("passages", "queries")
        ]
        summed = {key: sum(part[key] for part in parts) for key in keys}
        expected[f"encode untrained {paradigm} 1b on"] = 1, summed
        adapt = ledger["adapt"]
        assert adapt["spent"]["tokens"] == adapt["planned"]["tokens"] == 2 * 2 * 16
        assert 0.8 < adapt["spent"]["useful_flops"] / adapt["planned"]["useful_flops"] < 1.2
        assert ledger["teacher"]["spent"]["tokens"] > 0
    assert {title: work["cells"] for title, work in shared.items()} == {
        title: sharing for title, (sharing, _) in expected.items()
    }
    for title, (_, spent) in expected.items():
        assert {key: shared[title][key] for key in keys} == {key: spent[key] for key in keys}
        add(spent, total)
    assert {key: plan["total"][key] for key in keys} == total
    assert {key: plan["total"][f"train_{key}"] for key in keys} == training
    assert (plan["total"]["cells"], plan["total"]["fits"]) == (2, True)


def test_a_tracker_hears_of_every_step(base: Path) -> None:
    """Of both cells, in an offline run of each, what their logs, records and results say."""
    for result in by_axes(base / "out").values():
        (file,) = base.glob(f"out/wandb/offline-run-*-{result['id']}/*.wandb")
        read, cell = read_run(file), base / "out" / "cells" / result["id"]
        run, config = read["run"], read["config"]
        assert (run.run_id, run.project, run.run_group) == (result["id"], "lions", f"{NAME}-proxy")
        assert {f"{axis}={name}" for axis, name in result["axes"].items()} < set(run.tags)
        assert (config["seed"], config["budget"]["steps"]) == (SEED, STEPS)
        assert {axis: config[f"axis_{axis}"] for axis in result["axes"]} == result["axes"]
        assert config["planned"] == result["ledger"]["train"]["planned"]
        rows = [json.loads(line) for line in (cell / "history.jsonl").read_text().splitlines()]
        logged = re.findall(rf" train (\d)/{STEPS} (.*)", (cell / "log.txt").read_text())
        assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
        for step, row, (number, line) in zip(read["history"], rows, logged, strict=True):
            assert row["step"] == int(number)
            assert {f"train/{key}": value for key, value in row.items()}.items() <= step.items()
            shown = {k: float(v) for k, v in (part.split("=") for part in line.split())}
            assert {key: row[key] for key in shown} == pytest.approx(shown, abs=1e-4)
        last, trained = rows[-1], result["ledger"]["train"]["spent"]
        assert (last["useful_flops"], last["tokens"]) == (
            trained["useful_flops"],
            trained["tokens"],
        )
        losses = facts(done(base, result, "train"))["facts"]["loss"]
        assert [row["loss"] for row in rows] == pytest.approx(losses, abs=1e-6)
        points = [json.loads(line) for line in (cell / "points.jsonl").read_text().splitlines()]
        assert {"split": "dev", "trained_on": False}.items() <= result["points"].items()
        assert points[-1]["step"] == STEPS
        assert sum("entropy" in point for point in points) == min(4, STEPS)
        summary = read["summary"]
        for name, values in result["scores"].items():
            assert {m: summary[f"{name}/{m}"] for m in values} == values
        assert summary["points/entropy"] == points[-1]["entropy"]
