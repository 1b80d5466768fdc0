"""Tasks: what a job does. A cell, or a stage that several cells wait for.

Everything a job reads of what was asked for lies in its task's folder, frozen when the command was
given: editing conf/ afterwards changes nothing.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lion_sweep import prepare, stage
from lion_sweep.cell import Cell, axes, label, read_config, write_config
from lion_sweep.config import Config
from lion_sweep.errors import UserError
from lion_sweep.validation import needs_teacher

TASK = "task.json"
CELL, ADAPT, TEACHER = "cell", "adapt", "teacher"


@dataclass(frozen=True)
class Task:
    """A piece of work with a folder of its own, and the tasks that have to be done before it."""

    kind: str
    name: str
    config: Config
    needs: tuple[str, ...] = ()

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
        if self.kind == CELL:
            return label(self.config)
        return (
            f"{self.kind} {getattr(self.config, 'model' if self.kind == ADAPT else self.kind).name}"
        )

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
        stage.write_json(
            self.folder / TASK, {"kind": self.kind, "name": self.name, "needs": list(self.needs)}
        )

    @classmethod
    def thaw(cls, folder: Path) -> "Task":
        """The task that was frozen in `folder`; its outputs go where the folder is now."""
        try:
            frozen = json.loads((folder / TASK).read_text(encoding="utf-8"))
            config = read_config(folder)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} holds no task that can be read ({error}).") from None
        config.paths.root = str(folder.parent.parent)
        return cls(frozen["kind"], frozen["name"], config, tuple(frozen["needs"]))


def tasks_of(cells: list[Cell], adapted: Callable[[Config], str]) -> list[Task]:
    """The cells' tasks after those that they need; `adapted` names the stage a cell starts from."""
    shared: dict[str, Task] = {}
    of_cells = []
    for cell in cells:
        config = cell.config
        wanted = [(ADAPT, adapted(config))]
        if needs_teacher(config):
            wanted.append((TEACHER, prepare.taught_name(config, cell.checksum)))
        for kind, name in wanted:
            shared.setdefault(name, Task(kind, name, config))
        of_cells.append(Task(CELL, cell.id, config, tuple(name for _, name in wanted)))
    return [*shared.values(), *of_cells]


def all_tasks(root: Path) -> list[Task]:
    """Every task that was ever frozen below `root`, shared ones first; names unreadable ones."""
    folders = [*sorted((root / "shared").glob("*/")), *sorted((root / "cells").glob("*/"))]
    found = []
    for folder in folders:
        if (folder / TASK).is_file():
            try:
                found.append(Task.thaw(folder))
            except UserError as error:  # one that cannot be read must not hide the others
                print(f"left out: {error}", file=sys.stderr)
    return found
