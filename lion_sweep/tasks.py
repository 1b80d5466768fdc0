"""Tasks: what a job does. A cell, or what cells wait for.

The stages that several cells share are tasks of their own. With `site.encode_jobs` of more than 1,
so are the training of a cell and its encoding jobs, each of which takes the shards of its passages
that nobody else is at; the cell's own task then puts them together, searches and scores.

Everything a job reads of what was asked for lies in its task's folder, frozen when the command was
given: editing conf/ afterwards changes nothing.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep import stage
from lion_sweep.cell import Cell, axes, label, read_config, training_specification, write_config
from lion_sweep.config import Config
from lion_sweep.errors import UserError
from lion_sweep.validation import needs_teacher

TASK = "task.json"
ENCODING = "encoding"  # the stage of an encoding job
CELL, ADAPT, TEACHER, TRAIN, ENCODE = "cell", "adapt", "teacher", "train", "encode"
KINDS = (ADAPT, TEACHER, TRAIN, ENCODE, CELL)  # each needs only such as stand before it


@dataclass(frozen=True)
class Task:
    """A piece of work with a folder of its own, and all tasks that have to be done before it."""

    kind: str
    name: str
    config: Config
    needs: tuple[str, ...] = ()
    number: int = 0  # of an encoding job, from 1 on

    @property
    def root(self) -> Path:
        """The folder of all outputs."""
        return Path(self.config.paths.root)

    @property
    def folder(self) -> Path:
        """Configuration, attempts, log and, for a cell, its result."""
        return self.root / ("cells" if self.kind == CELL else "shared") / self.name

    @property
    def label(self) -> str:
        """What a person calls it."""
        config, cell = self.config, label(self.config)
        return {
            ADAPT: f"{ADAPT} {config.model.name}",
            TEACHER: f"{TEACHER} {config.teacher.name}",
            TRAIN: f"{TRAIN} {cell}",
            ENCODE: f"{ENCODE} {cell} {self.number}/{config.site.encode_jobs}",
            CELL: cell,
        }[self.kind]

    @property
    def complete(self) -> bool:
        """Whether its result is there."""
        if self.kind == CELL:
            return (self.folder / "result.json").is_file()
        return (self.root / "stages" / self.name / stage.DONE).is_file()

    def freeze(self) -> None:
        """Write everything that a job needs into the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_config(self.config, self.folder, {"id": self.name, "axes": axes(self.config)})
        own = {"kind": self.kind, "name": self.name, "needs": self.needs, "number": self.number}
        stage.write_json(self.folder / TASK, own)

    @classmethod
    def thaw(cls, folder: Path) -> "Task":
        """The task that was frozen in `folder`; its outputs go where the folder is now."""
        try:
            own = json.loads((folder / TASK).read_text(encoding="utf-8"))
            config = read_config(folder)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} holds no task that can be read ({error}).") from None
        config.paths.root = str(folder.parent.parent)
        number = own.get("number", 0)
        return cls(own["kind"], own["name"], config, tuple(own["needs"]), number)


def encoding_job(cell: Cell, number: int) -> dict[str, Any]:
    """The specification of the stage that is finished when an encoding job of a cell is."""
    return {"cell": cell.id, "number": number, "jobs": cell.config.site.encode_jobs}


def encoding_name(cell: Cell, number: int) -> str:
    """That stage's name."""
    return stage.name_of(ENCODING, encoding_job(cell, number))


def tasks_of(
    cells: list[Cell], adapted: Callable[[Config], str], taught: Callable[[Config, str], str]
) -> list[Task]:
    """The cells' tasks after those that they need.

    `adapted` names the stage that a configuration starts from, `taught` the one of its teacher on
    the collection with a checksum.
    """
    before: dict[str, Task] = {}
    of_cells = []
    for cell in cells:
        config = cell.config
        needed = [Task(ADAPT, adapted(config), config)]
        if needs_teacher(config):
            needed.append(Task(TEACHER, taught(config, cell.checksum), config))
        if config.site.encode_jobs > 1 and not cell.complete:
            needed += _jobs_of(cell, needed)
        for task in needed:
            before.setdefault(task.name, task)
        of_cells.append(Task(CELL, cell.id, config, _names(needed)))
    return [*before.values(), *of_cells]


def _jobs_of(cell: Cell, shared: list[Task]) -> list[Task]:
    """The training and the encoding jobs of a cell that waits for some shared stages."""
    config, adapted = cell.config, shared[0].name
    trained = stage.name_of("train", training_specification(config, adapted, cell.checksum))
    training = Task(TRAIN, trained, config, _names(shared))
    needed = _names([*shared, training])
    return [training] + [
        Task(ENCODE, encoding_name(cell, number), config, needed, number)
        for number in range(1, config.site.encode_jobs + 1)
    ]


def _names(tasks: list[Task]) -> tuple[str, ...]:
    return tuple(task.name for task in tasks)


def all_tasks(root: Path) -> list[Task]:
    """Every task that was ever frozen below `root`, in the order of `KINDS`.

    Ones that cannot be read are named and left out.
    """
    folders = [*sorted((root / "shared").glob("*/")), *sorted((root / "cells").glob("*/"))]
    found = []
    for folder in folders:
        if (folder / TASK).is_file():
            try:
                found.append(Task.thaw(folder))
            except UserError as error:  # one that cannot be read must not hide the others
                print(f"left out: {error}", file=sys.stderr)
    return sorted(found, key=lambda task: (KINDS.index(task.kind), label(task.config), task.number))
