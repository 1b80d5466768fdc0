"""An attempt at a cell that writes down steps and tells its tracker, without any training.

`python tracked_cell.py ROOT KIND FIRST LAST END`: it goes on from a checkpoint of step FIRST and
takes the steps up to LAST; END is kill, stop, fail, result or halt (waits there for a line). Every
tenth step is a point.
"""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lion_sweep.config.schema import TrackerKind
from lion_sweep.errors import Interrupted
from lion_sweep.machine import wandb_run
from lion_sweep.machine.history import HISTORY, POINTS, Record, copy_records
from lion_sweep.machine.tracked import Tracked
from lion_sweep.machine.tracking import tracker
from lion_sweep.result import FORMAT

CELL = "1b-sparse-cl-0123456789ab"
SECRET = "hf_a-key-of-somebody"
SENT: dict[str, Any] = {"seed": 7, "site": {"slurm": {"qos": "q"}}}
CONFIG = SENT | {"site": {"slurm": {"qos": "q", "setup": [f"export HF_TOKEN={SECRET}"]}}}
RESULT: dict[str, Any] = {
    "format": FORMAT, "id": CELL, "axes": {"model": "1b", "paradigm": "sparse", "loss": "cl"},
    "config": CONFIG, "ladder": "proxy", "seed": 7, "data": "mine", "site": "laptop",
    "precision": "fp32",
    "device": {"name": "cpu", "peak_flops": None, "count": 1, "train_seconds": 20.0},
    "scores": {"mine": {"nDCG@10": 0.5, "MRR@10": 0.25}},
    "untrained": {"mine": {"nDCG@10": 0.125, "MRR@10": 0.1}},
    "gain": {"mine": {"nDCG@10": 0.375, "p": 0.01}},
    "bm25": {"mine": {"nDCG@10": 0.75, "MRR@10": 0.6}},
    "entropy": {"mine": 2.5},
    "untrained_entropy": {"mine": 4.0},
    "efficiency": {"mine": {"L0_documents": 12.5}},
    "ledger": {"train": {"planned": {"useful_flops": 2000}, "spent": {"useful_flops": 2000}}},
    "stages": {"train": {"folder": "train-1", "seconds": 20.0, "reused": False}},
    "teacher": None,
}  # fmt: skip


def row(step: int) -> dict[str, Any]:
    """What a step writes down: 100 FLOPs and 10 tokens in a second."""
    told = {
        "step": step,
        "loss": 1.0 / step,
        "contrastive": 0.75 / step,
        "flops_query": 0.25 / step,
    }
    told |= {"learning_rate": 0.01, "gradient_norm": 2.0, "useful_flops": 100 * step}
    return told | {"tokens": 10 * step, "seconds": float(step)}


def point(step: int) -> dict[str, Any]:
    """An evaluation."""
    return {"step": step, "useful_flops": 100 * step, "entropy": 3.0 - step / 10, "MRR@10": 0.5}


def attempt(root: Path, kind: str, first: int, last: int, end: str) -> None:
    """From step `first` + 1 to `last`."""
    folder, cell = root / "train", root / "cells" / CELL
    for path in (folder, cell):
        path.mkdir(parents=True, exist_ok=True)
    config: Any = SimpleNamespace(tracking=SimpleNamespace(kind=TrackerKind[kind]))
    tags = ("model=1b", "loss=cl")
    known = Tracked(CELL, "lions", "grid", root, cell, CONFIG, tags, 1000.0)
    if end == "halt":
        wandb_run.FINISH_SECONDS = 3
    history, points = (Record(folder / name, first) for name in (HISTORY, POINTS))
    with tracker(config, known, lambda text: print(text, flush=True)) as track:
        for step in range(first + 1, last + 1):
            history.add(row(step))
            if step % 10 == 0:
                points.add(point(step))
            track.follow(folder, {"steps": 20, "useful_flops": 2000})
        track.follow(folder, {"steps": 20, "useful_flops": 2000})
        if end == "halt":
            print("halted", flush=True)
            sys.stdin.readline()
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "stop":
            raise Interrupted("stopped")
        if end == "fail":
            raise ValueError("no such thing")
        copy_records(folder, cell)
        track.finished(RESULT)
    print("done", flush=True)


if __name__ == "__main__":
    _, root, kind, first, last, end = sys.argv
    attempt(Path(root), kind, int(first), int(last), end)
