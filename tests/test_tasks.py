"""Tasks: frozen when the command is given, and what waits for what."""

from pathlib import Path
from typing import Any

import pytest

from lion_sweep import stage
from lion_sweep.cell import Cell
from lion_sweep.errors import UserError
from lion_sweep.prepare import taught_name
from lion_sweep.tasks import ADAPT, CELL, ENCODE, TEACHER, TRAIN, Task, all_tasks, tasks_of


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
    tasks = tasks_of(cells, lambda config: f"adapt-{config.model.name}", taught_name)
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


def test_a_cell_of_several_jobs(tmp_path: Path, compose_cell: Any) -> None:
    words = [f"paths.root={tmp_path}", "paradigm=dense", "site.encode_jobs=2"]
    first, second = (
        Cell(compose_cell(*words, f"loss={loss}"), {"pydoc": "sum"}) for loss in ("cl", "kd")
    )
    tasks = tasks_of([first, second], lambda config: "adapt-1", taught_name)
    assert [task.label for task in tasks] == [
        "adapt 1b",
        "train 1b-dense-cl",
        "encode 1b-dense-cl 1/2",
        "encode 1b-dense-cl 2/2",
        "teacher minilm",
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
    shared = ["adapt 1b", "teacher minilm", "train 1b-dense-kd"]
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
    done = tmp_path / "stages" / job.name / stage.DONE
    done.parent.mkdir(parents=True)
    done.touch()
    assert job.complete
    stage.write_json(first.result_path, {})  # a finished cell needs no more jobs
    again = tasks_of([first, second], lambda config: "adapt-1", taught_name)
    assert [task.label for task in again] == [tasks[i].label for i in (0, 4, 5, 6, 7, 8, 9)]


def test_what_only_spreads_the_work_gives_the_cell_no_other_id(compose_cell: Any) -> None:
    cell = Cell(compose_cell(), {"pydoc": "sum"})
    spread = Cell(compose_cell("site.encode_jobs=4", "site.shard_tokens=999"), {"pydoc": "sum"})
    assert spread.id == cell.id


def test_a_task_of_an_earlier_version(tmp_path: Path, compose_cell: Any) -> None:
    """It knew nothing of encoding jobs."""
    task = Task(CELL, "some-cell", compose_cell(f"paths.root={tmp_path}"), ("adapt-1",))
    task.freeze()
    path = task.folder / "task.json"
    path.write_text(path.read_text().replace(',\n  "number": 0', ""))
    assert "number" not in path.read_text()
    lines = (task.folder / "config.yaml").read_text().splitlines(keepends=True)
    old = [line for line in lines if "encode_jobs" not in line and "shard_tokens" not in line]
    assert len(old) == len(lines) - 2
    (task.folder / "config.yaml").write_text("".join(old))
    assert Task.thaw(task.folder) == task
