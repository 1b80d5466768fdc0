"""Tasks: frozen when the command is given, and what waits for what."""

from pathlib import Path
from typing import Any

import pytest

from lion_sweep.cell import Cell
from lion_sweep.errors import UserError
from lion_sweep.tasks import ADAPT, CELL, TEACHER, Task, all_tasks, tasks_of


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["ladder=full", "model=8b", "paradigm=dense", "loss=clkd", "budget=anchor"],
        ["site=slurm", "site.slurm.sbatch.mail-type=FAIL", "recipe.learning_rate=1e-5"],
        ["data=beir", "data.path=/folder with spaces", "budget=epochs", "seed=7"],
    ],
)
def test_a_thawed_task_is_the_frozen_one(
    tmp_path: Path, compose_cell: Any, overrides: list[str]
) -> None:
    allowed = ["+" + o if "mail-type" in o else o for o in overrides]
    config = compose_cell(*allowed, f"paths.root={tmp_path}")
    task = Task(CELL, "some-cell", config, ("adapt-1", "teacher-2"))
    task.freeze()
    assert Task.thaw(task.folder) == task
    assert all_tasks(tmp_path) == [task]


def test_a_moved_output_folder_is_where_outputs_go(tmp_path: Path, compose_cell: Any) -> None:
    task = Task(ADAPT, "adapt-1", compose_cell(f"paths.root={tmp_path}/old"))
    task.freeze()
    (tmp_path / "old").rename(tmp_path / "new")
    moved = Task.thaw(tmp_path / "new" / "shared" / "adapt-1")
    assert moved.root == tmp_path / "new"


def test_a_folder_without_a_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no task"):
        Task.thaw(tmp_path)


def test_cells_wait_for_what_they_share(compose_cell: Any) -> None:
    cells = [
        Cell(compose_cell(f"model={model}", f"loss={loss}"), {"pydoc": "checksum"})
        for model in ("1b", "3b")
        for loss in ("cl", "kd", "clkd")
    ]
    tasks = tasks_of(cells, lambda config: f"adapt-{config.model.name}")
    shared = [task for task in tasks if task.kind != CELL]
    assert [task.kind for task in shared] == [ADAPT, TEACHER, ADAPT]
    assert tasks[: len(shared)] == shared
    teacher = shared[1].name
    assert [task.needs for task in tasks[len(shared) :]] == [
        ("adapt-1b",),
        ("adapt-1b", teacher),
        ("adapt-1b", teacher),
        ("adapt-3b",),
        ("adapt-3b", teacher),
        ("adapt-3b", teacher),
    ]
