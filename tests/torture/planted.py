"""Faults in lion_sweep itself, one at a time: torture has to notice each, or it notices nothing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lion_sweep import files
from lion_sweep.machine import history, seal
from lion_sweep.stages import engine
from lion_sweep.training import optimisation


def damage_is_not_looked_for() -> None:
    """Stages are read whatever became of their files."""
    seal.Seals.check = lambda *told: None  # type: ignore[method-assign]


def files_are_written_in_place() -> None:
    """A reader, or a kill, may come upon half of one."""

    @contextmanager
    def written(path: Path, **how: Any) -> Iterator[Path]:
        yield path

    _everywhere(files.written, written)


def steps_are_told_again() -> None:
    """Who goes on from a checkpoint does not take back what came after it."""
    record = history.Record.__init__

    def init(self: history.Record, path: Path, start: int, *, writes: bool = True) -> None:
        record(self, path, start, writes=False)
        self.writes = writes

    history.Record.__init__ = init  # type: ignore[method-assign]


def dropout_is_drawn_anew() -> None:
    """A checkpoint's state of the generator counts for nothing."""
    torch.set_rng_state = lambda state: None


def the_rate_begins_again() -> None:
    """A checkpoint's place in the schedule counts for nothing."""
    optimisation.LambdaLR.load_state_dict = lambda self, state: None  # type: ignore[method-assign]


def nobody_waits() -> None:
    """No lock is held, so that two do the same work in the same folder."""

    @contextmanager
    def locked(path: Path, owner: str = "", wait: bool = True) -> Iterator[None]:
        yield

    _everywhere(engine.locked, locked)


def what_is_half_done_has_its_name() -> None:
    """A stage works in the folder that says that it is finished."""
    find = engine.find

    def claim(folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        return folder

    engine._claim = claim
    engine.find = lambda folder: (
        find(folder)
        or (  # type: ignore[assignment]
            engine.Done(folder, {}, 0.0, True, None) if folder.is_dir() else None
        )
    )


def _everywhere(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """In every module that has it by its name."""
    for module in list(sys.modules.values()):
        if (
            str(getattr(module, "__name__", "")).startswith("lion_sweep")
            and vars(module).get(old.__name__) is old
        ):
            setattr(module, old.__name__, new)


PLANTED = {
    plant.__name__.replace("_", "-"): plant
    for plant in (
        damage_is_not_looked_for,
        files_are_written_in_place,
        steps_are_told_again,
        dropout_is_drawn_anew,
        the_rate_begins_again,
        nobody_waits,
        what_is_half_done_has_its_name,
    )
}
