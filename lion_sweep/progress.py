"""What a person sees while a cell runs, and what its log keeps.

One line on a terminal, rewritten in place: stage, step, loss, time left. Elsewhere a line per
finished stage. Everything goes to the cell's log as well.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

REDRAW_SECONDS = 0.2


def duration(seconds: float) -> str:
    """As in 4.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """The live line of one cell."""

    def __init__(self, name: str, log: Path | None) -> None:
        self.name = name
        self.log = log
        self.live = sys.stderr.isatty()
        self._stage, self._start, self._drawn, self._first = "", 0.0, 0.0, 0

    def _write(self, text: str) -> None:
        if self.log:
            with self.log.open("a", encoding="utf-8") as log:
                log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")

    def _clear(self) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[2K")

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self._stage, self._start, self._first = stage, time.monotonic(), -1
        self._write(f"{stage} started")

    def step(self, done: int, total: int, values: Mapping[str, float] | None = None) -> None:
        """Part of a stage is done; `values` are shown and logged."""
        if values:
            named = " ".join(f"{key}={value:.4f}" for key, value in values.items())
            self._write(f"{self._stage} {done}/{total} {named}")
        if self._first < 0:  # the rate counts from here: a resumed stage does not start at 0
            self._first, self._start = done, time.monotonic()
        now = time.monotonic()
        if not self.live or (now - self._drawn < REDRAW_SECONDS and done < total):
            return
        self._drawn = now
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = f", {duration((total - done) / rate)} left" if rate > 0 else ""
        loss = f", loss {values['loss']:.3f}" if values and "loss" in values else ""
        sys.stderr.write(f"\r\x1b[2K{self.name}: {self._stage} {done}/{total}{loss}{left}")
        sys.stderr.flush()

    def end(self, stage: str, seconds: float, reused: bool) -> None:
        """A stage is finished."""
        self._clear()
        self._write(f"{stage} {'reused' if reused else 'finished'} ({duration(seconds)})")

    def say(self, text: str) -> None:
        """A line for the person and the log."""
        self._clear()
        print(f"{self.name}: {text}", flush=True)
        self._write(text)
