"""Where a cell is that several jobs do, and which of its jobs a command means."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch import slurm
from launch.commands import _all, _called_so
from launch.queue import standing
from launch.status import BLOCKED, CANCELLED, FAILED, FINISHED, Submission
from lion_sweep.cell.tasks import ADAPT, Task, tasks_of
from lion_sweep.config import Config


@pytest.fixture
def config(compose_cell: Any, tmp_path: Path) -> Config:
    """Below the folder of all tasks."""
    found: Config = compose_cell(f"paths.root={tmp_path}")
    return found


@pytest.fixture
def tasks(small_cell: Any, tmp_path: Path) -> list[Task]:
    """Of two cells, dense and sparse, with two encoding jobs each; the dense one also scored less.

    All are frozen.
    """
    words = [f"paths.root={tmp_path}", "site.encode_jobs=2"]
    chosen = [["paradigm=dense"], ["paradigm=sparse"], ["paradigm=dense", "evaluation.depth=10"]]
    found = tasks_of([small_cell(*words, *more) for more in chosen])
    for task in found:
        task.freeze()
    return found


def _tasks(config: Config, names: list[str]) -> list[Task]:
    """Those that a command with these names is of."""
    return _called_so(_all(config), names)


def labels(tasks: list[Task]) -> list[str]:
    return sorted(task.label for task in tasks)


def test_a_cell_s_own_jobs_come_with_it(config: Config, tasks: list[Task]) -> None:
    assert labels(_tasks(config, [])) == labels(tasks)
    own = ["1b-sparse-cl", *(f"encode 1b-sparse-cl {n}/2" for n in (1, 2)), "train 1b-sparse-cl"]
    assert labels(_tasks(config, ["1b-sparse-cl"])) == own
    (sparse,) = (task for task in tasks if task.label == "1b-sparse-cl")
    assert labels(_tasks(config, [sparse.name])) == own
    assert labels(_tasks(config, ["encode 1b-sparse-cl 2/2"])) == [own[2]]
    dense = [task for task in tasks if task.label == "1b-dense-cl"]
    # Their vectors are the same, so are the jobs that make them: the other one needs them too.
    both = labels(_tasks(config, ["1b-dense-cl*"]))
    jobs = [f"encode 1b-dense-cl {n}/2" for n in (1, 2)]
    assert both == ["1b-dense-cl"] * 2 + [*jobs, "train 1b-dense-cl"]
    assert labels(_tasks(config, [dense[0].name])) == ["1b-dense-cl"]


def test_what_waits_for_a_failed_job_names_that_one(
    tasks: list[Task], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (adapt,) = (task.name for task in tasks if task.kind == ADAPT)
    (tmp_path / "stages" / adapt).mkdir(parents=True)
    (tmp_path / "stages" / adapt / "done.json").touch()
    failed = {"train 1b-dense-cl": "FAILED"}
    states = {}
    for task in tasks:
        job = f"7_{len(states)}"
        states[job] = standing(failed.get(task.label, "CANCELLED"))
        Submission("token", slurm.NAME, job).write(task.folder)
    monkeypatch.setattr(slurm.queue, "job_states", lambda jobs: states)
    found = {status.task.label: (status.state, status.reason) for status in slurm.survey(tasks)}
    blocked = (BLOCKED, "train 1b-dense-cl failed")
    assert found.pop("adapt 1b")[0] == FINISHED
    assert found.pop("train 1b-dense-cl")[0] == FAILED
    assert {label: state for label, state in found.items() if "dense" in label} == {
        "encode 1b-dense-cl 1/2": blocked,
        "encode 1b-dense-cl 2/2": blocked,
        "1b-dense-cl": blocked,
    }
    assert {state for label, (state, _) in found.items() if "sparse" in label} == {CANCELLED}


def test_looking_needs_nothing_of_what_computes() -> None:
    """Importing torch takes seconds, on the disk of a login node many."""
    asked = "import sys, launch.commands; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
