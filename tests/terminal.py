"""A terminal of so many columns and rows, and what a person sees on it."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

ROOT = Path(__file__).parent.parent
PLAIN = ("CI", "NO_COLOR")


class Terminal:
    """A pseudo-terminal: `lines` is what it shows, `history` what has left it at the top."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.master, self.slave = pty.openpty()
        os.set_blocking(self.master, False)
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.01)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """As when a person drags its corner."""
        self.read()
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)
        gone = max(0, self.screen.lines - rows)  # lines at the top
        self.screen.resize(rows, columns)
        self.screen.cursor.y = max(0, self.screen.cursor.y - gone)

    def read(self) -> None:
        """Take what has been written until now."""
        while True:
            try:
                told = os.read(self.master, 65536)
            except (BlockingIOError, OSError):
                return
            if not told:
                return
            self.raw += told
            self._stream.feed(told)

    @property
    def lines(self) -> list[str]:
        """What it shows, without empty lines at the end."""
        self.read()
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    @property
    def text(self) -> str:
        """The same as one text, after all that has left it at the top."""
        shown = self.lines
        gone = [
            "".join(row[n].data for n in range(self.screen.columns)).rstrip()
            for row in self.screen.history.top
        ]
        return "\n".join([*gone, *shown])

    def start(self, module: str, *words: str, **environment: str) -> "subprocess.Popen[bytes]":
        """`python -m MODULE WORDS` in it."""
        kept = {name: value for name, value in os.environ.items() if name not in PLAIN}
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env={**kept, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def wait_for(
        self, seen: Callable[[list[str]], object], what: object, seconds: float = 240
    ) -> list[str]:
        """Its lines, once they are as they should be."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if seen(lines := self.lines):
                return lines
            time.sleep(0.05)
        raise AssertionError(f"waited in vain for {what}:\n" + "\n".join(self.lines))

    def close(self) -> None:
        for end in (self.master, self.slave):
            os.close(end)
