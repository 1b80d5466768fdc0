"""Cells of two ranks on one machine, without SLURM: their numbers, and how they can end."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from commands import run
from support import Shell, attempts, by_axes, wait_for

from lion_sweep.search.parts import Stored

STEPS = 60
LONG = ["paradigm=dense", "loss=drawn_out", "budget=steps", f"budget.steps={STEPS}"]
LONG += ["site.devices=2", "++site.stages.adapt={devices:1}"]
ALONE = """
import os

class Alone:
    needs_teacher = needs_negatives = False
    def __init__(self, weight: float) -> None:
        self.weight = weight
    def __call__(self, step):
        if os.environ.get("RANK") == "1":
            raise MemoryError("the second rank has none left")
        return step.query_BD.sum() * 0.0
"""
LOSS = """
name: alone
batch_size: 8
negatives: 2
terms:
  alone: {_target_: alone.Alone, weight: 1.0}
"""


def trained(root: Path, result: dict[str, Any]) -> list[float]:
    """The losses of a cell's steps."""
    done = root / "stages" / result["stages"]["train"]["folder"] / "done.json"
    return list(json.loads(done.read_text())["facts"]["loss"])


def test_two_ranks_come_to_the_numbers_of_one(laptop: Shell, tmp_path: Path) -> None:
    words = ["-m", "paradigm=sparse,dense", "budget=steps", "budget.steps=3"]
    words += ["recipe.precision=fp32", "evaluation.batch_tokens=512"]
    found = {}
    for ranks in (1, 2):
        root = tmp_path / str(ranks)
        code, printed = laptop.run(*words, f"site.devices={ranks}", f"paths.root={root}")
        assert code == 0, printed
        found[ranks] = by_axes(root)
    assert found[1].keys() == found[2].keys() and len(found[1]) == 2
    for name, one in found[1].items():
        two = found[2][name]
        assert (one["device"]["count"], two["device"]["count"]) == (1, 2)
        for numbers in ("id", "bm25", "ledger"):
            assert two[numbers] == one[numbers], (name, numbers)
        for numbers in ("scores", "untrained"):
            assert two[numbers]["twin"] == pytest.approx(one[numbers]["twin"], abs=1e-6)
        losses = [trained(tmp_path / str(ranks), found[ranks][name]) for ranks in (1, 2)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        assert len(losses[0]) == 3
    vectors = {path.parent.name: Stored(path) for path in (tmp_path / "1").glob("stages/*/vectors")}
    dense = {stage: found for stage, found in vectors.items() if found.kind == "dense"}
    assert len(dense) == 4
    for stage, ours in dense.items():
        theirs = Stored(tmp_path / "2" / "stages" / stage / "vectors")
        np.testing.assert_allclose(theirs.all(), ours.all(), atol=1e-4)


class Trial:
    """A cell of two ranks that takes its time, and what is done to it."""

    def __init__(self, laptop: Shell, options: Path, root: Path) -> None:
        own = {"PYTHONPATH": str(options), "PAUSE_SECONDS": "0.5"}
        self.shell = Shell(laptop.environment | own, laptop.collection)
        self.root = root
        self.words = ["--config-dir", str(options), *LONG, f"paths.root={root}"]

    @property
    def folder(self) -> Path:
        (folder,) = self.root.glob("cells/*/")
        return folder

    def job(self, after: int = 0) -> psutil.Process:
        """The cell's job, another than that one, when it has kept some steps of its own."""

        def kept() -> int:
            for path in self.root.glob("cells/*/progress.json"):
                where, sent = (
                    json.loads(one.read_text()) for one in (path, path.parent / "submission.json")
                )
                new = int(sent["job"] or 0) not in (0, after) and where["time"] > sent["time"]
                if new and where["stage"] == "train" and (where["done"] or 0) > 1:
                    return int(sent["job"])
            return 0

        return psutil.Process(wait_for(kept, "the cell to train"))


def test_every_end_of_two_ranks_and_how_they_go_on(
    laptop: Shell, drawn_out: Path, tmp_path: Path
) -> None:
    trial = Trial(laptop, drawn_out, tmp_path / "hit")
    launcher = trial.shell.start(*trial.words)
    job = trial.job()
    ranks = job.children()
    assert len(ranks) == 2

    launcher.kill()  # the job goes on, and the next command waits for it
    assert launcher.wait() == -signal.SIGKILL
    second = trial.shell.start(*trial.words)
    _, rows = trial.shell.status(trial.root)
    (cell,) = (row for row in rows if row["kind"] == "cell")
    assert (cell["state"], cell["job"]) == ("running", str(job.pid))
    assert job.children() == ranks

    ranks[1].kill()  # the other would wait for it for ever
    _, alive = psutil.wait_procs([job, *ranks], timeout=60)
    assert not alive
    failure = attempts(trial.folder)[0]["failure"]
    assert failure["class"] == "killed"
    assert failure["message"].startswith("rank 1 of 2 (from 0 on) was ended by SIGKILL")

    again = trial.job(after=job.pid)  # by the command that waited
    ranks = again.children()
    words = ["all", f"paths.root={trial.root}"]
    done = run("lion_sweep.cancel", *words, env=trial.shell.environment)
    assert done.returncode == 0 and f"cancelled job {again.pid}" in done.stdout
    printed, _ = second.communicate()
    assert second.wait() == 4 and "interrupted" in printed
    assert len(ranks) == 2 and not any(rank.is_running() for rank in ranks)

    trial.shell.environment["PAUSE_SECONDS"] = "0"
    code, printed = trial.shell.run(*trial.words)
    assert code == 0, printed
    records = attempts(trial.folder)
    assert [record["outcome"] for record in records] == ["failed", "interrupted", "finished"]
    marks = [int(record["mark"][-1].split()[-1]) for record in records[1:]]
    assert 1 < marks[0] < marks[1] < STEPS

    quiet = Trial(laptop, drawn_out, tmp_path / "quiet")
    quiet.shell.environment["PAUSE_SECONDS"] = "0"
    code, printed = quiet.shell.run(*quiet.words)
    assert code == 0, printed
    (ours,), (theirs,) = by_axes(trial.root).values(), by_axes(quiet.root).values()
    assert ours["scores"] == theirs["scores"]
    assert trained(trial.root, ours) == trained(quiet.root, theirs)
    assert len(trained(quiet.root, theirs)) == STEPS


def test_what_one_rank_fails_of_is_why_the_cell_has_failed(laptop: Shell, tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(ALONE)
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "alone.yaml").write_text(LOSS)
    shell = Shell(laptop.environment | {"PYTHONPATH": str(tmp_path)}, laptop.collection)
    words = ["--config-dir", str(tmp_path), "paradigm=dense", "loss=alone", "site.devices=2"]
    code, printed = shell.run(*words, "budget=steps", "budget.steps=3", f"paths.root={tmp_path}")
    assert code == 4 and "out of memory (1): 1b-dense-alone" in printed
    assert "MemoryError: the second rank has none left" in printed
    living = (process for process in psutil.process_iter(["cmdline"]))
    assert not [p for p in living if str(tmp_path) in " ".join(p.info["cmdline"] or ())]
    assert os.environ.get("RANK") is None
