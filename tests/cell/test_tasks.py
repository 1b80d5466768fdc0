"""Tasks: frozen when the command is given, and what waits for what."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import (
    ADAPT,
    CELL,
    ENCODE,
    TASK,
    TEACHER,
    TRAIN,
    Task,
    all_tasks,
    tasks_of,
)
from lion_sweep.config.composing import CONFIG
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, write_json
from lion_sweep.stages.engine import DONE

SmallCell = Callable[..., Cell]


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
    task = Task(CELL, "some-cell", config, ("adapt-1", "teacher-2"), number=3)
    task.freeze()
    thawed = Task.thaw(task.folder)
    assert (thawed, thawed.config, thawed.shown) == (task, config, task.shown)
    assert all_tasks(tmp_path) == [task]


def test_what_a_task_is_called_takes_no_configuration(tmp_path: Path, compose_cell: Any) -> None:
    task = Task(ENCODE, "encode-1", compose_cell(f"paths.root={tmp_path}"), number=3)
    task.freeze()
    (task.folder / CONFIG).write_text("of another version: 1\n")
    [thawed] = all_tasks(tmp_path)
    assert (thawed.label, thawed.shown) == ("encode 1b-sparse-cl 3/1", task.shown)
    with pytest.raises(UserError, match="another version"):
        _ = thawed.config


def test_a_moved_output_folder_is_where_outputs_go(tmp_path: Path, compose_cell: Any) -> None:
    task = Task(ADAPT, "adapt-1", compose_cell(f"paths.root={tmp_path}/old"))
    task.freeze()
    (tmp_path / "old").rename(tmp_path / "new")
    moved = Task.thaw(tmp_path / "new" / "shared" / "adapt-1")
    assert moved.root == tmp_path / "new"


def test_a_folder_without_a_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no task"):
        Task.thaw(tmp_path)


def test_cells_wait_for_what_they_share(small_cell: SmallCell) -> None:
    cells = [
        small_cell(f"model={model}", f"loss={loss}")
        for model in ("1b", "3b")
        for loss in ("cl", "kd", "clkd")
    ]
    tasks = tasks_of(cells)
    shared = [task for task in tasks if task.kind != CELL]
    assert [task.kind for task in shared] == [ADAPT, TEACHER, ADAPT]
    assert tasks[: len(shared)] == shared
    small, teacher, large = (task.name for task in shared)
    assert [task.needs for task in tasks[len(shared) :]] == [
        (small,),
        (small, teacher),
        (small, teacher),
        (large,),
        (large, teacher),
        (large, teacher),
    ]


def test_a_cell_of_several_jobs(small_cell: SmallCell, small_beir: Path, tmp_path: Path) -> None:
    words = [f"paths.root={tmp_path}", "paradigm=dense", "site.encode_jobs=2", "teacher=bm25"]
    first, second = (small_cell(*words, f"loss={loss}") for loss in ("cl", "kd"))
    tasks = tasks_of([first, second])
    assert [task.label for task in tasks] == [
        "adapt 1b",
        "train 1b-dense-cl",
        "encode 1b-dense-cl 1/2",
        "encode 1b-dense-cl 2/2",
        "teacher bm25",
        "train 1b-dense-kd",
        "encode 1b-dense-kd 1/2",
        "encode 1b-dense-kd 2/2",
        "1b-dense-cl",
        "1b-dense-kd",
    ]
    assert len({task.name for task in tasks}) == len(tasks)
    labels = {task.name: task.label for task in tasks}
    needs = {task.label: [labels[name] for name in task.needs] for task in tasks}
    assert needs["train 1b-dense-cl"] == ["adapt 1b"]
    assert needs["encode 1b-dense-cl 2/2"] == ["adapt 1b", "train 1b-dense-cl"]
    shared = ["adapt 1b", "teacher bm25", "train 1b-dense-kd"]
    assert needs["encode 1b-dense-kd 1/2"] == shared
    assert needs["1b-dense-kd"] == [*shared, "encode 1b-dense-kd 1/2", "encode 1b-dense-kd 2/2"]

    for task in reversed(tasks):
        task.freeze()
    found = all_tasks(tmp_path)
    assert sorted(found, key=lambda t: t.name) == sorted(tasks, key=lambda t: t.name)
    kinds = [ADAPT, TEACHER, TRAIN, TRAIN, *4 * [ENCODE], CELL, CELL]
    assert [task.kind for task in found] == kinds
    assert [task.number for task in found if task.kind == ENCODE] == [1, 2, 1, 2]

    job = tasks[2]
    assert not job.complete
    done = tmp_path / "stages" / job.name / DONE
    done.parent.mkdir(parents=True)
    done.touch()
    assert job.complete
    first.result_path.touch()  # a finished cell needs no more jobs
    again = tasks_of([first, second])
    assert [task.label for task in again] == [tasks[i].label for i in (0, 4, 5, 6, 7, 8, 9)]


def test_tasks_of_other_versions(
    tmp_path: Path, compose_cell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that does not say what it is called is read out of its configuration, if that can be."""
    tasks = [Task(CELL, name, compose_cell(f"paths.root={tmp_path}")) for name in ("old", "other")]
    for task in tasks:
        task.freeze()
        told = read_json(task.folder / TASK)
        del told["shown"]
        write_json(task.folder / TASK, told)
    path = tasks[1].folder / CONFIG
    path.write_text(path.read_text() + "an_old_key: 1\n")
    assert [task.shown for task in all_tasks(tmp_path)] == [tasks[0].shown]
    assert "other" in (said := capsys.readouterr().err) and "another version" in said
