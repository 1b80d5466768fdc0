"""Tasks: what a job does. A cell, or what cells wait for.

The stages that several cells share are tasks of their own. With `site.encode_jobs` of more than 1,
so are the training of a cell and its encoding jobs, each of which takes the shards of its passages
that nobody else is at; the cell's own task then puts them together, searches and scores.

Everything a job reads of what was asked for lies in its task's folder, frozen when the command was
given: editing conf/ afterwards changes nothing.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lion_sweep.cell import names
from lion_sweep.cell.names import axes, label, settings
from lion_sweep.cell.result import RESULT
from lion_sweep.config import Config, changed, read_config, write_config
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, write_json
from lion_sweep.stages.engine import DONE

if TYPE_CHECKING:  # whoever reads tasks need not wait for torch
    from lion_sweep.cell.cell import Cell

TASK = "task.json"
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
        return Path(self.config.paths.root)

    @property
    def folder(self) -> Path:
        """Configuration, attempts, log and, for a cell, its result."""
        return self.root / ("cells" if self.kind == CELL else "shared") / self.name

    @property
    def label(self) -> str:
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
        if self.kind == CELL:
            return (self.folder / RESULT).is_file()
        return (self.root / "stages" / self.name / DONE).is_file()

    def freeze(self) -> None:
        """Write everything that a job needs into the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_config(self.config, self.folder, {"id": self.name, "axes": axes(self.config)})
        own = {"kind": self.kind, "name": self.name, "needs": self.needs, "number": self.number}
        write_json(self.folder / TASK, own)

    @classmethod
    def thaw(cls, folder: Path) -> "Task":
        """The task that was frozen in `folder`; its outputs go where the folder is now."""
        try:
            own = read_json(folder / TASK)
            config = read_config(folder)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder} holds no task that can be read ({error}).") from None
        config = changed(config, {"paths.root": str(folder.parent.parent)})
        return cls(own["kind"], own["name"], config, tuple(own["needs"]), own["number"])


def tasks_of(cells: list["Cell"]) -> list[Task]:
    """The cells' tasks after those that they need, which their stages name."""
    before: dict[str, Task] = {}
    of_cells = []
    for cell in cells:
        config, stages = cell.config, cell.stages
        needed = [Task(ADAPT, stages.adapt.name, config)]
        if stages.teacher:
            needed.append(Task(TEACHER, stages.teacher.name, config))
        if config.site.encode_jobs > 1 and not cell.complete:
            training = Task(TRAIN, stages.train.name, config, _names(needed))
            needs = (*training.needs, training.name)
            jobs = stages.encoding_jobs(config.site.encode_jobs)
            needed += [training, *(Task(ENCODE, j.name, config, needs, j.number) for j in jobs)]
        for task in needed:
            before.setdefault(task.name, task)
        of_cells.append(Task(CELL, cell.id, config, _names(needed)))
    return [*before.values(), *of_cells]


def _names(tasks: list[Task]) -> tuple[str, ...]:
    return tuple(task.name for task in tasks)


def full_names(tasks: Sequence[Task]) -> dict[str, str]:
    """What tells each task apart from the others in plain words, by its name."""
    found = names.full_names([(task.label, task.name, settings(task.config)) for task in tasks])
    return {task.name: name for task, name in zip(tasks, found, strict=True)}


def all_tasks(root: Path) -> list[Task]:
    """Every task that was ever frozen below `root`, in the order of `KINDS`."""
    found = []
    for room in ("shared", "cells"):
        for frozen in sorted((root / room).glob(f"*/{TASK}")):
            try:
                found.append(Task.thaw(frozen.parent))
            except UserError as error:  # one that cannot be read must not hide the others
                print(f"left out: {error}", file=sys.stderr)
    return sorted(found, key=lambda task: (KINDS.index(task.kind), label(task.config), task.number))
