"""A device that runs out of memory: the message says how to go on, and nothing is lost."""

import json
import subprocess
from pathlib import Path

import commands
import pytest
import torch
from support import TINY

from lion_sweep.errors import OutOfMemory
from lion_sweep.machine.devices import enough_memory, halved

# A loss term that runs out of memory in the fifth step.
FULL = """
import os
import torch
from dataclasses import dataclass

@dataclass
class Full:
    weight: float

    def __call__(self, step):
        Full.steps = getattr(Full, "steps", 0) + 1
        if Full.steps == 5 and "FULL" in os.environ:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return 0.0 * step.query_BD.sum()
"""


def test_training_goes_on_with_the_setting_that_the_message_names(
    small_beir: Path, tmp_path: Path
) -> None:
    (tmp_path / "full.py").write_text(FULL)

    def run(root: Path, *words: str, full: str | None = "1") -> "subprocess.CompletedProcess[str]":
        environment = {"PYTHONPATH": str(tmp_path)} | ({"FULL": full} if full else {})
        own = [*TINY, f"data.path={small_beir}", f"paths.root={root}", "paradigm=dense", "loss=cl"]
        own += [
            "budget=steps",
            "budget.steps=8",
            "+loss.terms.full={_target_: full.Full, weight: 1}",
        ]
        return commands.run("lion_sweep", *own, *words, env=environment)

    root, quiet = tmp_path / "out", tmp_path / "quiet"
    failed = run(root)
    assert failed.returncode == 3, failed.stdout + failed.stderr
    assert "train: CUDA out of memory. Give the same command with" in failed.stdout
    change = "recipe.gradient_cache=always"
    assert f"{change}: it goes on" in failed.stdout
    done = run(root, change, full=None)
    assert done.returncode == 0, done.stderr
    assert run(quiet, full=None).returncode == 0
    (cell,) = root.glob("cells/*")
    (other,) = quiet.glob("cells/*")
    assert cell.name == other.name
    log = (cell / "log.txt").read_text()
    assert log.count("train 4/8") == 1 and log.count("train 8/8") == 1
    found, wanted = (json.loads((c / "result.json").read_text()) for c in (cell, other))
    assert found["ledger"]["train"]["spent"]["steps"] == 8
    for measure, value in wanted["scores"]["twin"].items():
        assert found["scores"]["twin"][measure] == pytest.approx(value, abs=0.02)


def test_where_nothing_smaller_is_left() -> None:
    assert halved("key", 100, 50) == "key=50"
    assert halved("key", 100, 51) is None
    with (
        pytest.raises(OutOfMemory, match=r"encode: HIP out of memory\. Nothing smaller is left"),
        enough_memory("encode", lambda: None),
    ):
        raise torch.OutOfMemoryError("HIP out of memory. Tried")
