"""Benchmarks that need a GPU, at a size that any machine has: the same code, the same gates."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import encoding, interleaved, training_step


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
