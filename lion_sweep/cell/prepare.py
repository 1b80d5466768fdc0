"""What cells read, in jobs of their own that they wait for, and what is only known after them.

Texts, judgements, tokens, stand-ins, negatives and BM25's rows need no GPU.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import CELL, Task
from lion_sweep.errors import UserError
from lion_sweep.stages.base import Stage
from lion_sweep.stages.of_cell import CellStages, stages_of
from lion_sweep.stages.teacher import TeachAll
from lion_sweep.stages.workshop import Workshop


@dataclass(frozen=True, eq=False)
class Prepare(Stage):
    """All that some cells read, which is done where its inputs are."""

    kind = "prepare"

    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, cells: Iterable[CellStages]) -> "Prepare":
        found = {stage.name: stage for stages in cells for stage in stages.preparation}
        return cls(tuple(found[name] for name in sorted(found)))

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        return {}


def prepare(task: Task, shop: Workshop) -> None:
    """Do it for the cells of a task; what they then turn out to be is refused here.

    Raises `UserError` where the cells are other ones by now, or would not cost the same.
    """
    cells = _cells(task, shop)
    stage = Prepare.of(cell.stages for cell in cells)
    task.check(stage.name)
    for one in dict.fromkeys(stage for cell in cells for stage in cell.stages.preparation):
        shop.run(one)
    # What a model mines is not there yet, and its cells count their steps themselves.
    counted = [cell for cell in cells if not cell.stages.groups.encodes]
    refuse_unequal(counted, lambda cell: cell.stages.train.course.spending(shop).useful_flops)
    shop.run(stage)


def teach(task: Task, shop: Workshop) -> None:
    """Have the teacher of a task's cells score what they draw.

    Raises `UserError` where the cells are other ones by now.
    """
    stage = TeachAll.of(cell.stages.teacher for cell in _cells(task, shop))
    task.check(stage.name)
    shop.run(stage)


def _cells(task: Task, shop: Workshop) -> list[Cell]:
    """Those that wait for a task."""
    folders = (Task(CELL, name, task.config).folder for name in task.cells)
    configs = [Task.thaw(folder).config for folder in folders]
    return [Cell(config, stages_of(config, shop)) for config in configs]


def refuse_unequal(cells: Iterable[Cell], useful_flops: Callable[[Cell], int]) -> None:
    """Refuse cells of one budget that would not be equal in useful FLOPs."""
    equal: dict[tuple[float | None, float], dict[str, int]] = defaultdict(dict)
    for cell in cells:
        budget = cell.config.budget
        if budget.tolerance is not None:
            equal[budget.flops, budget.tolerance][cell.id] = useful_flops(cell)
    for (_, tolerance), planned in equal.items():
        refuse_spread(planned, tolerance)


def refuse_spread(planned: dict[str, int], tolerance: float) -> None:
    """Refuse cells that are further apart than that."""
    least, most = min(planned, key=planned.__getitem__), max(planned, key=planned.__getitem__)
    if (apart := spread(list(planned.values()))) > tolerance:
        raise UserError(
            f"The cells would not spend the same: {most} {planned[most]:.4g} useful FLOPs, {least} "
            f"{planned[least]:.4g}: {apart:.2%} apart, budget.tolerance is {tolerance:.2%}. "
            "Raise budget.flops or lower loss.batch_size (a cell takes whole steps), or "
            f"accept it with budget.tolerance={apart + 0.0005:.3f}."
        )


def spread(useful_flops: Sequence[int]) -> float:
    """Share by which the most costly cell exceeds the least costly one."""
    return max(useful_flops) / min(useful_flops) - 1
