"""Trackers: what a person sees of a cell elsewhere, and never a cell's failure.

Nothing is kept here. Steps and points are read from what the training wrote down (history.py), so
that a cell that was killed, or trained by another job, is told as one that was not: from its first
step to its last, each of them once.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lion_sweep.config.schema import Config, TrackerKind
from lion_sweep.errors import Interrupted, sentence
from lion_sweep.machine.tracked import Backend, Records, Say, Told, Tracked, score_rows, summary
from lion_sweep.machine.trackio_run import TrackioRun
from lion_sweep.machine.wandb_run import wandb_run


class Tracker:
    """What a cell tells its backend; without one nothing is told."""

    def __init__(
        self, backend: Backend | None = None, peak: float | None = None, say: Say = print
    ) -> None:
        self.backend, self.peak, self.say = backend, peak, say
        self.told, self.last, self.records = Told(), 0, Records(None)
        if backend and not backend.whole:
            self.last = self._tell(backend.begin) or 0

    def _tell(self, what: Callable[[], Any]) -> Any:
        """Tell the backend, which hears no more once it has failed; that is said."""
        try:
            return what()
        except Exception as error:
            assert self.backend
            self.say(f"no longer tracked: {sentence(error)}")
            self.backend = self.backend.instead()
            return None

    def follow(self, folder: Path, planned: Mapping[str, int] | None = None) -> None:
        """Steps are written down in this folder; the backend hears of those that are new to it."""
        self.told.planned = planned or self.told.planned
        if self.records.folder != folder:
            self.records = Records(folder)
        if self.backend and not self.backend.whole:
            self._tell(self._log)

    def _log(self) -> None:
        assert self.backend
        for step, values in self.records.new(self.peak):
            if step > self.last:
                self.backend.log(values, step)
                self.last = step

    def finished(self, result: Mapping[str, Any]) -> None:
        """The cell is done; the rest is told at the end of the context."""
        self.told.result, self.told.summary = result, summary(result)
        self.told.scores = score_rows(result)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        goes_on = kind is not None and issubclass(kind, Interrupted)
        if self.backend and not self.backend.whole and kind and not goes_on:
            self._tell(self._log)  # what was measured last, which may be why it has failed
        if self.backend and not self.backend.whole:
            end = self.backend.end
            self._tell(lambda: end(self.told, kind))
        # With little time left, nothing is written that the next attempt writes again.
        if (backend := self.backend) and backend.whole and not goes_on:
            self._tell(lambda: self._write(backend, kind))

    def _write(self, backend: Backend, kind: type[BaseException] | None) -> None:
        """All at once, from the first step."""
        self.last, self.records = backend.begin(), Records(self.records.folder)
        self._log()
        backend.end(self.told, kind)


def tracker(config: Config, cell: Tracked, say: Say) -> Tracker:
    """What `tracking` asks for; where it cannot be had, that is said, and nothing is tracked."""
    kind = config.tracking.kind
    if kind is TrackerKind.none:
        return Tracker()
    try:
        if kind is TrackerKind.trackio:
            return Tracker(TrackioRun(cell), cell.peak_flops, say)
        return Tracker(wandb_run(cell, say), cell.peak_flops, say)
    except Exception as error:
        say(f"not tracked: {sentence(error)}")
        return Tracker()
