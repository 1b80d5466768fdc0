"""What goes wrong: said at once in plain words, or found in the status, and nothing else is hit."""

import json
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from devcluster import Cluster
from support import Shell, attempts, results, wait_for

from launch.queue import SlurmError
from launch.requests import request
from launch.slurm import rehearse
from lion_sweep.cell.tasks import CELL, Task

pytestmark = pytest.mark.slurm

SMALL = ["budget=steps", "budget.steps=3", "paradigm=dense"]
BOOM = """
import os, signal
import torch

class Boom:
    needs_teacher = needs_negatives = False
    def __init__(self, weight: float, way: str) -> None:
        self.weight, self.way = weight, way
        self.hoard = []
    def __call__(self, step):
        if self.way == "raise":
            raise RuntimeError("nobody expects this")
        if self.way == "hoard":
            while True:
                self.hoard.append(torch.ones(50_000_000))
        if self.way == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        nan = float("nan") if self.way == "naught" else 0.0
        return step.query_BD.sum() * nan
"""
LOSS = """
name: {way}
batch_size: 8
negatives: 2
terms:
  cl: {{_target_: lion_sweep.losses.contrastive.Contrastive, weight: 1.0}}
  boom: {{_target_: boom.Boom, weight: 1.0, way: {way}}}
"""
CLASSES = {"raise": "code", "hoard": "out of memory", "die": "killed", "naught": "NaN"}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with losses that end badly, one that does not, and their class."""
    folder = tmp_path_factory.mktemp("options")
    (folder / "boom.py").write_text(BOOM)
    (folder / "loss").mkdir()
    for way in [*CLASSES, "fine"]:
        (folder / "loss" / f"{way}.yaml").write_text(LOSS.format(way=way))
    return folder


def test_each_failure_is_named_and_spares_the_others(
    slurm: Shell, options: Path, tmp_path: Path
) -> None:
    shell = Shell(slurm.environment | {"PYTHONPATH": str(options)}, slurm.collection)
    words = ["--config-dir", str(options), "-m", f"loss=fine,{','.join(CLASSES)}", *SMALL]
    words += [f"paths.root={tmp_path}", "site.memory=2"]
    code, printed = shell.run(*words)
    assert code == 0, printed
    code, printed = shell.run(*words)  # follows
    assert code == 4, printed
    assert "1 finished" not in printed.splitlines()[-1] or "4 failed" in printed
    code, rows = shell.status(tmp_path)
    assert code == 4
    cells = {row["axes"]["loss"]: row for row in rows if row["kind"] == "cell"}
    assert cells["fine"]["state"] == "finished"
    found = {name: cells[name]["failure"]["class"] for name in CLASSES}
    assert found == CLASSES
    assert "nobody expects this" in cells["raise"]["failure"]["message"]
    assert len(results(tmp_path)) == 1

    code, printed = shell.run(*words)  # not submitted again unless asked to
    assert code == 4
    assert {len(attempts(path)) for path in tmp_path.glob("cells/*/")} == {1}
    code, printed = shell.run(*words, "site.retry=failed")
    assert code == 0, printed
    records = [json.loads(p.read_text()) for p in tmp_path.glob("cells/*hoard*/submission.json")]
    assert [record["request"]["memory"] for record in records] == [3.0]
    assert shell.run("all", f"paths.root={tmp_path}", module="lion_sweep.cancel")[0] == 0


def test_cells_of_a_failed_preparation_are_blocked(slurm: Shell, tmp_path: Path) -> None:
    words = ["-m", "loss=cl,kd", *SMALL, f"paths.root={tmp_path}", "recipe.adapt.chunk=100000000"]
    words += ["recipe.micro_batch_tokens=100000000"]
    code, printed = slurm.run(*words)
    assert code == 0, printed
    code, printed = slurm.run(*words)
    assert code == 4, printed
    code, rows = slurm.status(tmp_path)
    states = {row["id"].split("-")[0]: row["state"] for row in rows if row["kind"] != "teacher"}
    assert states == {"adapt": "failed", "1b": "blocked"}
    (adapt,) = (row for row in rows if row["kind"] == "adapt")
    assert adapt["failure"]["class"] == "configuration"
    assert "recipe.adapt.chunk=100000000" in adapt["failure"]["message"]
    assert all(row["reason"] == "adapt 1b failed" for row in rows if row["state"] == "blocked")


def test_a_partition_that_is_not_there_is_refused_before_anything_is_made(
    slurm: Shell, tmp_path: Path
) -> None:
    wrong = "site.slurm.partition=nowhere"
    code, printed = slurm.run(*SMALL, f"paths.root={tmp_path}", wrong)
    assert code == 2, printed
    assert "SLURM has no partition nowhere; it has " in printed
    assert not list(tmp_path.glob("*/*"))


def test_what_slurm_would_refuse_is_refused_before_any_job(slurm: Shell, tmp_path: Path) -> None:
    code, printed = slurm.run(*SMALL, f"paths.root={tmp_path}", "site.gpus=9")
    assert code == 2, printed
    assert "SLURM would not take adapt 1b" in printed and "Change site.slurm.partition" in printed
    assert not list(tmp_path.glob("*/*/submission.json"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "site.gpus=9",
            "(?s)SLURM would not take .* 9 GPUs.*site.slurm.partition .there are .*, account",
        ),
        ("site.cpus=1000", "1000 CPUs"),
        ("site.time_limit=30", "asks for 30 h, but the default partition grants 24 h"),
        ("++site.slurm.sbatch.no-such-option=1", "unrecognized option"),
    ],
)
def test_what_slurm_would_refuse(
    compose_cell: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, word: str, message: str
) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    task = Task(CELL, "cell", compose_cell("site=slurm", word))
    with pytest.raises(SlurmError, match=message):
        rehearse(request(task, []), task)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_launcher_killed_while_it_submits(slurm: Shell, tmp_path: Path, moment: str) -> None:
    """Killed just before and just after the controller has taken the first array."""
    folder, marks = tmp_path / "bin", tmp_path / "marks"
    folder.mkdir()
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True).stdout.strip()
    pause = f"echo x >> {marks}; sleep 30"
    body = f'{pause}\nexec {real} "$@"' if moment == "before" else f'{real} "$@"\n{pause}'
    wrapper = folder / "sbatch"
    test_only = f'case "$*" in *test-only*) exec {real} "$@";; esac'
    wrapper.write_text(f"#!/bin/sh\n{test_only}\n{body}\n")
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    words = ["-m", "loss=cl,kd", *SMALL, f"paths.root={tmp_path}/out"]
    launcher = Shell(slurm.environment | path, slurm.collection).start(*words)
    wait_for(marks.is_file, "the first submission")
    os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()
    code, printed = slurm.run(*words)
    assert code == 0, printed
    code, printed = slurm.run(*words)
    assert code == 0, printed
    folders = [*(tmp_path / "out").glob("cells/*/"), *(tmp_path / "out").glob("shared/*/")]
    assert len(folders) == 4
    assert [len(attempts(folder)) for folder in folders] == [1, 1, 1, 1]


def test_logs_and_cancel(slurm: Shell, tmp_path: Path) -> None:
    words = ["budget=steps", "budget.steps=100000", "paradigm=dense", f"paths.root={tmp_path}"]
    assert slurm.run(*words, "site.encode_jobs=2")[0] == 0
    wait_for(lambda: list(tmp_path.glob("shared/train-*/progress.json")), "the training to run")
    code, printed = slurm.run("1b-dense-cl", f"paths.root={tmp_path}", module="lion_sweep.logs")
    assert code == 0
    assert "backbone started" in printed and "log.txt <==" in printed
    code, printed = slurm.run("1b-dense-cl", f"paths.root={tmp_path}", module="lion_sweep.cancel")
    assert code == 0
    jobs = ["train 1b-dense-cl", "encode 1b-dense-cl 1/2", "encode 1b-dense-cl 2/2", "1b-dense-cl"]
    assert [line.split(":")[0] for line in printed.splitlines()] == jobs

    def states() -> list[str]:
        return [row["state"] for row in slurm.status(tmp_path)[1]]

    wait_for(lambda: states() == ["finished", *4 * ["cancelled"]], "the end of the jobs")
    code, printed = slurm.run("no-such-cell", f"paths.root={tmp_path}", module="lion_sweep.logs")
    assert code == 2
    assert "No cell is called no-such-cell" in printed
