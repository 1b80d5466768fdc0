"""What a person sees while a cell runs, and what its log keeps.

One line on a terminal, rewritten in place: stage, step, loss, time left; none while a table of the
whole grid is shown there. Elsewhere a line a minute. Everything goes to the cell's log as well, and
where the cell is to a small file that the table and other processes read.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lion_sweep.files import write_json
from lion_sweep.machine import screen

REDRAW_SECONDS = 0.2
QUIET_SECONDS = 60.0  # between lines where no terminal shows the live one
TELL_SECONDS = 2.0
OLDER_LOG = "log.1.txt"
LOG_BYTES = 2**24  # of a log; when it has more, it takes the place of the one before it


def duration(seconds: float) -> str:
    """As in 4.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """The live line of one cell; `whereabouts` is the file for other processes."""

    def __init__(self, name: str, log: Path | None, whereabouts: Path | None = None) -> None:
        self.name, self.log, self.whereabouts = name, log, whereabouts
        self.live = sys.stderr.isatty() and not screen.active()
        self.finished: list[str] = []
        self._open: list[str] = []  # a stage may need another one that is not done yet
        self._drawn, self._told = time.monotonic(), 0.0
        self._enter("")

    def _write(self, text: str) -> None:
        if self.log:
            with self.log.open("a", encoding="utf-8") as log:
                log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")
                full = log.tell() > LOG_BYTES
            if full:
                self.log.replace(self.log.with_name(OLDER_LOG))

    def _clear(self) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[2K")

    def begin(self, stage: str) -> None:
        self._open.append(stage)
        self._enter(stage)
        self._write(f"{stage} started")
        self._tell()

    def _enter(self, stage: str) -> None:
        self._stage, self._start, self._first, self._kept = stage, time.monotonic(), -1, 0
        told = ("done", "total", "seconds_left", "rate", "loss")
        self._where: dict[str, float | None] = dict.fromkeys(told)  # in the stage

    def step(self, done: int, total: int, values: Mapping[str, float] | None = None) -> None:
        """Part of a stage is done; `values` are shown and logged."""
        if values:
            named = " ".join(f"{key}={value:.4f}" for key, value in values.items())
            self._write(f"{self._stage} {done}/{total} {named}")
            self._where["loss"] = values.get("loss")
        now = time.monotonic()
        if self._first < 0:  # the rate counts from here: a resumed stage does not start at 0
            self._first, self._start = done, now
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = (total - done) / rate if rate > 0 else None
        self._where |= {"done": done, "total": total, "seconds_left": left, "rate": rate or None}
        if now - self._told >= TELL_SECONDS:
            self._tell()
        if screen.active():
            return
        wait = REDRAW_SECONDS if self.live else QUIET_SECONDS
        if now - self._drawn >= wait or (self.live and done >= total):
            self._drawn = now
            loss = f", loss {values['loss']:.3f}" if values and "loss" in values else ""
            shown = "" if left is None else f", {rate:,.3g} a second, {duration(left)} left"
            self._clear()
            end = "" if self.live else "\n"
            sys.stderr.write(f"{self.name}: {self._stage} {done:,}/{total:,}{loss}{shown}{end}")
            sys.stderr.flush()

    def kept(self, done: int) -> None:
        """No kill can undo the first `done` steps of the stage any more."""
        self._kept = self._where["done"] = done
        self._tell()

    def kept_step(self, done: int, total: int) -> None:
        """One of many steps that no kill can undo; told every now and then."""
        self._kept = done
        self.step(done, total)

    @property
    def mark(self) -> list[str]:
        """What nothing can undo: grows with every finished stage and every kept step."""
        return [*self.finished, f"{self._stage} {self._kept}"]

    def _tell(self) -> None:
        if self.whereabouts:
            self._told = time.monotonic()
            where = {"stage": self._stage, **self._where, "mark": self.mark, "time": time.time()}
            write_json(self.whereabouts, where)

    def end(self, stage: str, seconds: float, reused: bool) -> None:
        self.finished.append(stage)
        self.leave(stage, f"{'reused' if reused else 'finished'} ({duration(seconds)})")

    def leave(self, stage: str, said: str = "left to another process") -> None:
        """The stage is over for this process."""
        self._open.remove(stage)
        if self._open:
            self._enter(self._open[-1])
        self._clear()
        self._write(f"{stage} {said}")

    def say(self, text: str) -> None:
        """A line for the person and the log."""
        self._clear()
        print(f"{self.name}: {text}", flush=True)
        self._write(text)
