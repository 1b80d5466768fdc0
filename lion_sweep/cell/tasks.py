"""Tasks: what a job does. A cell, or what cells wait for. And the attempts at them.

The stages that several cells share are tasks of their own. With `site.encode_jobs` of more than 1,
so are the training of a cell and its encoding jobs, each of which takes the shards of its passages
that nobody else is at; the cell's own task then puts them together, searches and scores.

Everything a job reads of what was asked for lies in its task's folder, frozen when the command was
given: editing conf/ afterwards changes nothing. What a task is called lies there by itself too, as
reading a configuration takes a tenth of a second, and there may be thousands. Each attempt leaves a
record there of who, where, how it began and how it ended. They are numbered by creating their
files, which only one process can do.
"""

import os
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lion_sweep import errors
from lion_sweep.cell import names
from lion_sweep.cell.names import Settings, axes, label, settings
from lion_sweep.config import Config, changed, read_config, write_config
from lion_sweep.config.schema import AXES
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, read_note, write_json
from lion_sweep.result import RESULT
from lion_sweep.stages.engine import DONE

if TYPE_CHECKING:  # whoever reads tasks need not wait for torch
    from lion_sweep.cell.cell import Cell
    from lion_sweep.stages.base import Stage

TASK, WHEREABOUTS = "task.json", "progress.json"
PREPARE, CELL, ADAPT, TEACHER = "prepare", "cell", "adapt", "teacher"
NEGATIVES = "negatives"
TRAIN, ENCODE = "train", "encode"
# Each needs only such as stand before it.
KINDS = (PREPARE, ADAPT, NEGATIVES, TEACHER, TRAIN, ENCODE, CELL)


@dataclass(frozen=True)
class Shown:
    """What tells a task apart from others."""

    label: str
    settings: Settings  # all that could change a number

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Shown":
        """What a file tells. Raises `ValueError` and `KeyError` where it tells something else."""
        found = cls(told["label"], dict(told["settings"]))
        values = [found.label, *found.settings.values(), *(found.axes.values())]
        if not all(isinstance(value, str) for value in values):
            raise ValueError("what it is called is not all text")
        return found

    @property
    def axes(self) -> dict[str, str]:
        return {axis: self.settings[f"{axis}.name"] for axis in AXES}


@dataclass(frozen=True)
class Task:
    """A piece of work with a folder of its own, and all tasks that have to be done before it."""

    kind: str
    name: str
    asked: Config | Path = field(repr=False, compare=False)  # or the folder where it is frozen
    needs: tuple[str, ...] = ()
    number: int = 0  # of an encoding job, from 1 on
    cells: tuple[str, ...] = ()  # for which texts are prepared, or pairs scored
    stages: tuple[str, ...] = field(default=(), compare=False)  # that a cell is made of, by name
    called: str = field(default="", compare=False)  # where its own label would not tell it apart
    frozen: "Shown | None" = field(default=None, repr=False, compare=False)

    @cached_property
    def config(self) -> Config:
        """What was asked for. Raises `UserError` where it was frozen and cannot be read."""
        if isinstance(self.asked, Config):
            return self.asked
        return changed(read_config(self.asked), {"paths.root": str(self.root)})

    @property
    def root(self) -> Path:
        """Where outputs go: where its folder is now, if it was frozen."""
        asked = self.asked
        return Path(asked.paths.root) if isinstance(asked, Config) else asked.parent.parent

    @property
    def folder(self) -> Path:
        """Configuration, attempts, log and, for a cell, its result."""
        return self.root / ("cells" if self.kind == CELL else "shared") / self.name

    @cached_property
    def shown(self) -> "Shown":
        """What it is called, unless it is `called` otherwise."""
        return self.frozen or Shown(self._label(), settings(self.config))

    @property
    def label(self) -> str:
        return self.called or self.shown.label

    def _label(self) -> str:
        config, cell = self.config, label(self.config)
        return {
            PREPARE: f"{PREPARE} {config.data.name}",
            ADAPT: f"{ADAPT} {config.model.name}",
            NEGATIVES: f"{NEGATIVES} {config.data.name}",
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

    def check(self, found: str | None) -> None:
        """Refuse to do it where what was frozen comes to something else by now."""
        if found != self.name:
            raise UserError(
                f"{self.name} was asked for with other files, or another version of lion_sweep, "
                "than are there now: give the command again, which makes a new cell of them."
            )

    def freeze(self) -> None:
        """Write everything that a job needs into the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_config(self.config, self.folder, {"id": self.name, "axes": axes(self.config)})
        own = {"kind": self.kind, "name": self.name, "needs": self.needs, "number": self.number}
        more = {"cells": self.cells, "stages": self.stages, "shown": asdict(self.shown)}
        write_json(self.folder / TASK, own | more)

    @classmethod
    def thaw(cls, folder: Path) -> "Task":
        """The task that was frozen in `folder`; its outputs go where the folder is now."""
        try:
            own = read_json(folder / TASK)
            needs, cells, stages = (tuple(own.get(key, ())) for key in ("needs", "cells", "stages"))
            if own["kind"] not in KINDS or own["name"] != folder.name:
                raise ValueError(f"it is of {own['kind']} {own['name']}")
            shown = Shown.of(own["shown"]) if "shown" in own else None
            number = int(own["number"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{folder} holds no task that can be read ({error}).") from None
        task = cls(own["kind"], own["name"], folder, needs, number, cells, stages, frozen=shown)
        if shown is None:  # of an earlier version: what it is called is read now, or refused
            task = replace(task, frozen=task.shown)
        return task

    @classmethod
    def of(cls, cell: "Cell", needs: tuple[str, ...] = (), called: str = "") -> "Task":
        """All of a cell, after what it needs."""
        stages = tuple(stage.name for stage in cell.stages.roles.values())
        return cls(CELL, cell.id, cell.config, needs, stages=stages, called=called)


def tasks_of(cells: list["Cell"], prepare: "Stage | None" = None) -> list[Task]:
    """The cells' tasks after those that they need, which their stages name.

    With `prepare`, all that they read has a task of its own, which the others wait for.
    """
    from lion_sweep.stages.teacher import TeachAll  # whoever reads tasks need not wait for it

    before: dict[str, Task] = {}
    of_cells, first = [], list[Task]()
    if prepare:
        ids = tuple(cell.id for cell in cells)
        first = [Task(PREPARE, prepare.name, cells[0].config, cells=ids)]
    ready, taught = _names(first), defaultdict[str, list["Cell"]](list)
    mined = {  # with a model; a cell mines by words itself
        groups.name: Task(NEGATIVES, groups.name, cell.config, ready)
        for cell in cells
        if (groups := cell.stages.groups).encodes
    }
    for cell in cells:
        if cell.stages.teacher:
            taught[cell.stages.teacher.family].append(cell)
    teachers = {}
    for family, alike in taught.items():
        name = TeachAll.of(cell.stages.teacher for cell in alike).name
        ids, drawn = tuple(cell.id for cell in alike), mined.get(alike[0].stages.groups.name)
        needs = (*ready, drawn.name) if drawn else ready
        teachers[family] = Task(TEACHER, name, alike[0].config, needs, cells=ids)
    for cell in cells:
        config, stages = cell.config, cell.stages
        needed = [*first, Task(ADAPT, stages.adapt.name, config, ready)]
        if stages.groups.name in mined:
            needed.append(mined[stages.groups.name])
        if stages.teacher:
            needed.append(teachers[stages.teacher.family])
        if config.site.encode_jobs > 1 and not cell.complete:
            training = Task(TRAIN, stages.train.name, config, _names(needed))
            needs = (*training.needs, training.name)
            jobs = stages.encoding_jobs(config.site.encode_jobs)
            needed += [training, *(Task(ENCODE, j.name, config, needs, j.number) for j in jobs)]
        for task in needed:
            before.setdefault(task.name, task)
        of_cells.append(Task.of(cell, _names(needed)))
    return [*before.values(), *of_cells]


def _names(tasks: list[Task]) -> tuple[str, ...]:
    return tuple(task.name for task in tasks)


def full_names(tasks: Sequence[Task]) -> dict[str, str]:
    """What tells each task apart from the others in plain words, by its name."""
    found = names.full_names([(task.label, task.name, task.shown.settings) for task in tasks])
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
    return sorted(found, key=lambda t: (KINDS.index(t.kind), *t.shown.axes.values(), t.number))


def failure_class(error: BaseException) -> str:
    """What kind of failure an exception is, in the words of the status table."""
    import torch  # here, as who only reads records need not wait for it

    for kinds, words in (
        (errors.NotFinite, "NaN"),
        (errors.Collapse, "collapse"),
        (errors.NoProgress, "no progress"),
        (errors.Killed, "killed"),
        (MemoryError | errors.OutOfMemory | torch.OutOfMemoryError, "out of memory"),
        (UserError, "configuration"),
    ):
        if isinstance(error, kinds):
            return words
    full = isinstance(error, OSError) and error.errno in errors.FULL_DISK
    return "disk full" if full else "code"


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Records of all attempts at the task in `folder`, the first one first."""
    paths = sorted((folder / "attempts").glob("*.json"))
    return [read_note(path) for path in paths]


def this_node() -> str:
    """What records call this machine."""
    return os.environ.get("SLURMD_NODENAME", socket.gethostname())


@dataclass
class Attempt:
    path: Path  # of the record
    record: dict[str, Any]

    @classmethod
    def begin(cls, folder: Path, job: str, limit: int) -> "Attempt":
        """Take the next number.

        `job` is the scheduler's name for the job, empty where somebody gave the command. Raises
        `NoProgress` after `limit` attempts of one job that kept nothing new.
        """
        (folder / "attempts").mkdir(parents=True, exist_ok=True)
        before, whereabouts = read_attempts(folder), folder / WHEREABOUTS
        mark = read_note(whereabouts).get("mark", [])
        for number in count(len(before) + 1):
            path = folder / "attempts" / f"{number:04d}.json"
            with suppress(FileExistsError):
                path.touch(exist_ok=False)
                break
        record = {
            "number": number,
            "job": job,
            "node": this_node(),
            "pid": os.getpid(),
            "started": time.time(),
            "mark": mark,
            "ended": None,
            "outcome": "running",
            "failure": None,
        }
        attempt = cls(path, record)
        write_json(path, record)
        earlier = ((one.get("mark"), one.get("job")) for one in reversed(before))
        idle = len(list(takewhile(lambda one: one == (mark, job), earlier)))
        if job and idle >= limit:
            error = errors.NoProgress(
                f"{idle} attempts in a row ended without anything new kept: look at the log, then "
                "lower recipe.checkpoint_every, or raise site.time_limit or site.attempts."
            )
            attempt.end(error)
            raise error
        return attempt

    @classmethod
    def last(cls, folder: Path, job: str) -> "Attempt | None":
        """The last one at the task in `folder`, where it is the job's."""
        path = max((folder / "attempts").glob("*.json"), default=None)
        record = read_note(path) if path else {}
        return cls(path, record) if path and record.get("job") == job else None

    def end(self, error: BaseException | None, *, last_word: bool = False) -> None:
        """Write down how it ended.

        Of the ranks that fail the first has said why; what the others fail of follows from that,
        unless this is the `last_word`.
        """
        if error and not last_word and read_note(self.path).get("outcome", "running") != "running":
            return
        self.record["ended"] = time.time()
        if error is None:
            self.record["outcome"] = "finished"
        elif isinstance(error, errors.Superseded):
            self.record["outcome"] = "superseded"
        elif isinstance(error, errors.Interrupted | KeyboardInterrupt | BrokenPipeError):
            self.record["outcome"] = "interrupted"
        else:
            told = {"class": failure_class(error), "message": errors.sentence(error)}
            self.record["outcome"], self.record["failure"] = "failed", told
        write_json(self.path, self.record)
