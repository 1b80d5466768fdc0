"""A picture at the foot of a terminal, drawn again as things change; what is printed goes above it.

The cursor is never hidden and the other screen of the terminal never taken: whatever ends the
process leaves a terminal that works. Where no picture can be drawn (`fits`), nothing here is used.
"""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, RenderableType

REDRAW_SECONDS = 0.5
PATIENCE_SECONDS = 2.0  # for a drawing that is under way at the end
USUAL = os.terminal_size((80, 24))  # where the terminal does not say
STYLES = re.compile(r"\x1b\[[0-9;]*m")

Draw = Callable[[int, int], RenderableType]
"""From columns and rows that there are to what is shown."""

_shown: "Screen | None" = None


def fits(stream: TextIO) -> bool:
    """Whether the stream is a terminal that can be drawn on, and nobody asked for plain lines."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("CI")
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb") and not plain


def active() -> bool:
    """Whether this process has a picture on the terminal."""
    return _shown is not None and _shown.open


@contextmanager
def shown(draw: Draw, stream: TextIO | None = None) -> Iterator[None]:
    """The picture while this lasts, on stderr unless told otherwise; nothing where it cannot be."""
    stream = stream or sys.stderr
    if fits(stream) and not active():
        with Screen(stream, draw):
            yield
    else:
        yield


class Screen:
    """Shows what `draw` gives, in a thread, from `with` to its end; then the picture is gone."""

    def __init__(self, stream: TextIO, draw: Draw) -> None:
        self.stream, self._draw = stream, draw
        self._lock, self._end, self._owner = threading.RLock(), threading.Event(), os.getpid()
        self._lines: list[str] = []  # as drawn last
        self._size = USUAL
        self._before: list[tuple[str, Any]] = []
        self._thread = threading.Thread(target=self._keep_drawing, daemon=True)

    @property
    def open(self) -> bool:
        """Whether there is a picture; not in a process that was forked off."""
        return not self._end.is_set() and os.getpid() == self._owner

    def __enter__(self) -> "Screen":
        global _shown
        _shown = self
        for name in ("stdout", "stderr"):
            found = getattr(sys, name)
            self._before.append((name, found))
            if found is self.stream or found.isatty():
                setattr(sys, name, Above(self, found))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        global _shown
        with self._lock:
            self._end.set()
            self._put(self._erasure())
            self._lines = []
        _shown = None
        for name, found in self._before:
            above = getattr(sys, name)
            setattr(sys, name, found)
            if isinstance(above, Above):
                above.finish()
        self._thread.join(PATIENCE_SECONDS)

    def _keep_drawing(self) -> None:
        while not self._end.is_set():
            with suppress(OSError, ValueError, KeyError):  # what it reads may just be written
                self.redraw()
            self._end.wait(REDRAW_SECONDS)

    def redraw(self) -> None:
        """Draw what there is now, for the terminal as large as it is now."""
        size = _size(self.stream)
        lines = _rendered(self._draw(size.columns, size.lines), size)
        with self._lock:
            if self.open and (lines, size) != (self._lines, self._size):
                erasure = self._erasure(size)
                self._lines, self._size = lines, size
                self._put(erasure + self._picture())

    def say(self, text: str, stream: TextIO) -> None:
        """Write whole lines to a stream of the same terminal, above the picture."""
        with self._lock:
            if not self.open:
                stream.write(text)
                return
            self._put(self._erasure(_size(self.stream)))
            stream.write(text)
            stream.flush()
            self._put(self._picture())

    def _picture(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)

    def _erasure(self, size: os.terminal_size | None = None) -> str:
        """What takes the picture away, with the cursor where it began.

        A terminal that has become narrower has broken its lines.
        """
        columns, rows = size or _size(self.stream)
        widths = [cell_len(STYLES.sub("", line)) for line in self._lines]
        high = min(sum(max(1, -(-width // columns)) for width in widths), rows - 1)
        return f"\r\x1b[{high}A\x1b[J" if high > 0 else ""

    def _put(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # the terminal is gone, and the work goes on
            self._end.set()


class Above:
    """A stream of the terminal whose whole lines go above the picture."""

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self._screen, self._stream, self._kept = screen, stream, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As of a stream; what ends no line waits for its end."""
        if not self._screen.open:
            return self._stream.write(text)
        whole, end, self._kept = (self._kept + text).rpartition("\n")
        if end:
            self._screen.say(whole + end, self._stream)
        return len(text)

    def finish(self) -> None:
        """Write what has waited until now."""
        self._stream.write(self._kept.rpartition("\r")[2])
        self._stream.flush()


def _size(stream: TextIO) -> os.terminal_size:
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return USUAL
    return found if found.columns and found.lines else USUAL


def _rendered(shown: RenderableType, size: os.terminal_size) -> list[str]:
    """Lines with colours; one column is left free, so that no terminal breaks them."""
    console = Console(
        width=max(1, size.columns - 1), force_terminal=True, highlight=False, legacy_windows=False
    )
    with console.capture() as kept:
        console.print(shown, end="")
    lines = kept.get().rstrip("\n").split("\n")[: max(1, size.lines - 1)]
    return [line.rstrip() for line in lines]
