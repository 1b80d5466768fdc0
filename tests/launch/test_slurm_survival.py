"""Cells interrupted in every way a cluster knows: they go on, and end as if nothing had been."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from devcluster import Cluster, processes
from support import Shell, attempts, wait_for

pytestmark = pytest.mark.slurm

# In a job every step is drawn out: training takes a minute at least, and is hit in its middle.
STEPS = 120
LONG = ["-m", "paradigm=dense", "budget=steps", f"budget.steps={STEPS}", "loss=drawn_out"]
LONG += ["recipe.checkpoint_every=10"]
# Each of the cells on a node of its own, so that what befalls one spares the others.
ALONE = ["+site.slurm.sbatch.exclusive=true"]
HITS = ("limit", "preempted", "node")
WORDS = {
    # Two minutes, signalled 25 s earlier or up to a minute before: SLURM looks twice a minute.
    # Training goes on for longer than the latest of those moments.
    "limit": ["site.time_limit=0.034", "site.slurm.signal=25"],
    "preempted": ["site.slurm.partition=preempt"],
    "node": [],
}
PAUSE_SECONDS = {"limit": "0.9", "preempted": "0.5", "node": "0.5"}


def training_on(root: Path) -> str:
    """The node on which the one cell of `root` has trained for a while; empty before and after."""
    for path in root.glob("cells/*/progress.json"):
        where = json.loads(path.read_text())
        if where["stage"] == "train" and 20 <= (where["done"] or 0) <= STEPS - 20:
            return str(attempts(path.parent)[-1]["node"])
    return ""


def outcome(root: Path) -> tuple[Any, Any, Any]:
    """(scores, loss of every step, weights) of the one cell of `root`."""
    (result,) = (json.loads(path.read_text()) for path in root.glob("cells/*/result.json"))
    folder = root / "stages" / result["stages"]["train"]["folder"]
    (weights,) = folder.glob("weights/*.safetensors")
    losses = json.loads((folder / "done.json").read_text())["facts"]["loss"]
    assert len(losses) == STEPS
    return result["scores"], losses, weights.read_bytes()


@pytest.fixture(scope="module")
def undisturbed(
    laptop: Shell, drawn_out: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any, Any]:
    """What the cell comes to when nothing happens to it."""
    root = tmp_path_factory.mktemp("undisturbed")
    shell = Shell(laptop.environment | {"PYTHONPATH": str(drawn_out)}, laptop.collection)
    code, printed = shell.run("--config-dir", str(drawn_out), *LONG, f"paths.root={root}")
    assert code == 0, printed
    return outcome(root)


@pytest.fixture(scope="module")
def hit(
    slurm: Shell,
    cluster: Cluster,
    drawn_out: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The same cell three times, each in a folder of its own, each hit by something else."""
    roots = {name: tmp_path_factory.mktemp(name) for name in HITS}
    shells = {}
    for name in HITS:
        own = {"PYTHONPATH": str(drawn_out), "PAUSE_SECONDS": PAUSE_SECONDS[name]}
        shells[name] = Shell(slurm.environment | own, slurm.collection)
    common = ["--config-dir", str(drawn_out), *LONG, *ALONE]
    words = {name: [*common, *WORDS[name], f"paths.root={roots[name]}"] for name in HITS}
    for name in HITS:
        code, printed = shells[name].run(*words[name])
        assert code == 0, printed

    def node(name: str) -> str:
        found = wait_for(lambda: training_on(roots[name]), f"{name} to train")
        return str(found)

    urgent = ["sbatch", "-p", "urgent", "--exclusive", "-w", node("preempted"), "--wrap", "sleep 5"]
    subprocess.run(urgent, check=True, env=os.environ | slurm.environment, cwd=roots["preempted"])
    killed = node("node")
    cluster.kill_node(killed)
    followers = [shells[name].start(*words[name]) for name in HITS]
    for name, follower in zip(HITS, followers, strict=True):
        printed, _ = follower.communicate(timeout=900)
        print(name, printed)  # what a failing test shows
        assert follower.returncode == 0
    cluster.start_node(killed)
    return roots


@pytest.mark.parametrize("name", HITS)
def test_the_end_is_that_of_an_undisturbed_run(
    hit: dict[str, Path], undisturbed: tuple[Any, Any, Any], name: str
) -> None:
    (folder,) = hit[name].glob("cells/*/")
    # A job writes how it ended after the result that followers wait for.
    wait_for(lambda: attempts(folder)[-1]["outcome"] == "finished", "the last attempt to finish")
    records = attempts(folder)
    assert len(records) >= 2
    # What was kept before the hit was not done again.
    kept = [mark for record in records[1:] for mark in record["mark"][-1:]]
    assert any(re.fullmatch(r"train [1-9]\d*", mark) for mark in kept)
    if name == "limit":
        assert {record["outcome"] for record in records[:-1]} == {"interrupted"}
    if name == "node":
        assert records[0]["outcome"] == "running"  # nobody was left to write more
        assert records[-1]["node"] != records[0]["node"]
    scores, losses, weights = outcome(hit[name])
    assert scores == undisturbed[0]
    assert losses == undisturbed[1]
    assert weights == undisturbed[2]
    assert not list(hit[name].glob("stages/*.partial"))


def starts(pid: int, root: Path) -> bool:
    """Whether a process is a job's Python, which holds signals back since it has this name."""
    words = processes.command_line(pid)[1:5]
    return words[:3] == ["-u", "-m", "submitit.core._submit"] and words[3].startswith(str(root))


def test_a_signal_that_comes_while_python_starts(slurm: Shell, tmp_path: Path) -> None:
    """A short time limit is signalled when a job may not have imported anything yet."""
    words = ["-m", "paradigm=dense", "budget=steps", "budget.steps=3", f"paths.root={tmp_path}"]
    code, printed = slurm.run(*words)
    assert code == 0, printed
    wait_for(lambda: any(starts(pid, tmp_path) for pid in processes.everyone()), "a job to start")
    (folder,) = tmp_path.glob("shared/adapt-*")
    job = json.loads((folder / "submission.json").read_text())["job"]
    subprocess.run(
        ["scancel", "--signal=USR2", job], check=True, env=os.environ | slurm.environment
    )
    assert not (folder / "attempts").exists()
    code, printed = slurm.run(*words)  # follows
    assert code == 0, printed
    assert [record["outcome"] for record in attempts(folder)] == ["interrupted", "finished"]
