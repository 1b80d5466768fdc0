"""What cells read, done in a job of its own, and what is refused when it is there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lion_sweep.cell.cell import Cell
from lion_sweep.cell.prepare import Prepare, prepare
from lion_sweep.cell.tasks import ADAPT, CELL, PREPARE, TEACHER, Task, tasks_of
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.stages.workshop import Workshop

SmallCell = Callable[..., Cell]


def frozen(cells: list[Cell]) -> tuple[Task, Workshop]:
    """The task that prepares cells, with all that its job reads, and where it is done."""
    tasks = tasks_of(cells, Prepare.of(cell.stages for cell in cells))
    for task in tasks:
        task.freeze()
    config = cells[0].config
    how = Execution.of(config, SiteName.laptop)
    shop = Workshop(Path(config.paths.root), Progress("cell", None), how)
    return Task.thaw(tasks[0].folder), shop


def test_all_tasks_wait_for_what_they_read(small_cell: SmallCell, tmp_path: Path) -> None:
    cells = [small_cell("paradigm=dense", f"loss={loss}") for loss in ("cl", "kd")]
    tasks = tasks_of(cells, Prepare.of(cell.stages for cell in cells))
    assert [task.kind for task in tasks] == [PREPARE, ADAPT, TEACHER, CELL, CELL]
    first = tasks[0]
    assert tasks[2].cells == (cells[1].id,)  # whose pairs are scored
    assert first.label == "prepare twin" and first.cells == tuple(cell.id for cell in cells)
    assert all(first.name in task.needs for task in tasks[1:])
    assert PREPARE not in [task.kind for task in tasks_of(cells)]


def test_it_makes_all_that_needs_no_gpu(small_cell: SmallCell, tmp_path: Path) -> None:
    cells = [
        small_cell("loss=kd", f"paths.root={tmp_path}", f"paradigm={p}")
        for p in ("dense", "sparse")
    ]
    task, shop = frozen(cells)
    assert not task.complete
    prepare(task, shop)
    assert task.complete
    kinds = {path.name.rpartition("-")[0] for path in tmp_path.glob("stages/*[!l]")}
    assert {"texts", "judgements", "tokens", "negatives", "search", "score"} <= kinds
    assert not kinds & {"adapt", "teacher", "train", "encode"}
    for cell in cells:
        assert all(map(shop.finished, cell.stages.preparation))


def test_cells_that_turn_out_to_differ_are_refused_before_a_gpu_is_asked_for(
    small_cell: SmallCell, tmp_path: Path
) -> None:
    words = ["budget.flops=3e10", "budget.tolerance=0.0001", f"paths.root={tmp_path}"]
    cells = [small_cell(*words, f"paradigm={paradigm}") for paradigm in ("dense", "sparse")]
    task, shop = frozen(cells)
    with pytest.raises(UserError, match=r"would not spend the same.*budget\.tolerance is 0\.01%"):
        prepare(task, shop)
    assert not task.complete


def test_other_cells_than_were_asked_for_are_refused(small_cell: SmallCell, tmp_path: Path) -> None:
    task, shop = frozen([small_cell(f"paths.root={tmp_path}")])
    other = Task(PREPARE, "prepare-other", task.config, cells=task.cells)
    with pytest.raises(UserError, match="prepare-other was asked for with other files"):
        prepare(other, shop)
