"""Benchmarks that need a GPU, at a size that any machine has: the same code, the same gates."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import encoding, interleaved, scale, training_step


@pytest.mark.parametrize(
    ("module", "words", "file"),
    [
        (training_step, ["--paradigm", "dense"], "training_step_proxy_dense"),
        (training_step, ["--paradigm", "sparse"], "training_step_proxy_sparse"),
        (encoding, ["--texts", "8"], "encoding"),
    ],
    ids=["dense step", "sparse step", "encoding"],
)
def test_sides_agree_and_results_are_written(
    module: ModuleType, words: list[str], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interleaved, "RESULTS", tmp_path)
    name = module.__name__.split(".")[-1]
    monkeypatch.setattr(sys, "argv", [name, "--size", "proxy", "--rounds", "1", *words])
    module.main()
    result = json.loads((tmp_path / f"{file}.json").read_text())
    assert {"sides", "ratio", "device", "versions", "command"} <= result.keys()
    assert result["equal"] and set(result["ratio"]) == {"median", "min", "max"}


def test_without_cuda_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["encoding", "--size", "8b"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA"):
        encoding.main()


def test_every_stage_runs_from_files_to_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interleaved, "RESULTS", tmp_path)
    sizes = ["--passages", "5000", "--queries", "80", "--dev", "20"]
    widths = ["--entries", "20", "--dimensions", "16", "--folder", str(tmp_path / "all")]
    monkeypatch.setattr(sys, "argv", ["scale", *sizes, *widths])
    scale.main()
    written = (tmp_path / "scale.json").read_text()
    assert str(tmp_path) not in written
    result = json.loads(written)
    assert result["command"].endswith("--entries 20 --dimensions 16")
    assert list(result["stages"]) == list(scale.STAGES)
    assert result["sizes"] == {"5000": result["stages"]}
    texts = {name: stage["texts"] for name, stage in result["stages"].items()}
    assert texts["import_texts"] == texts["tokens"] == 5000 + 80 + 20
    assert (texts["negatives"], texts["search_sparse"], texts["score"]) == (80, 20, 20)
    for stage in result["stages"].values():
        assert stage["peak_rss_bytes"] > 2**20 and stage["disk_bytes"] >= 0
    tables = tmp_path / "all" / "made-5000-80-20"
    assert len((tables / "collection.tsv").read_text().splitlines()) == 5000
    (query, asked), *_ = (line.split("\t") for line in (tables / "queries.dev.tsv").open())
    judged = dict(line.split("\t")[::2] for line in (tables / "qrels.dev.tsv").open())
    passages = dict(line.rstrip("\n").split("\t") for line in (tables / "collection.tsv").open())
    assert set(asked.split()) <= set(passages[judged[query]].split())


def test_a_slope_of_one_is_linear() -> None:
    sizes = {
        1_000: {"flat": {"seconds": 2.0}, "linear": {"seconds": 2.0}, "square": {"seconds": 2.0}},
        10_000: {"flat": {"seconds": 2.0}, "linear": {"seconds": 20.0}, "square": {"seconds": 200}},
        20_000: {"flat": {"seconds": 2.0}, "linear": {"seconds": 40.0}, "square": {"seconds": 800}},
    }
    assert scale.slopes(sizes) == {"flat": [0, 0], "linear": [1, 1], "square": [2, 2]}
