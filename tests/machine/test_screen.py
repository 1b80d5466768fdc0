"""The picture at the foot of a terminal, on a pseudo-terminal, as a person sees it."""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

import pytest
from rich.text import Text
from terminal import Terminal

from lion_sweep.machine import screen
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.screen import Screen


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal(40, 12)
    yield made
    made.close()


@pytest.fixture
def stream(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """A stream of the terminal, with nothing in the environment that asks for plain lines."""
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with os.fdopen(os.dup(terminal.slave), "w") as opened:
        yield opened


@contextmanager
def seated(stream: TextIO) -> Iterator[None]:
    """This process's stdout and stderr are the stream."""
    with redirect_stdout(stream), redirect_stderr(stream):
        yield


def picture(number: int) -> Callable[[int, int], Text]:
    """So many rows, each as wide as the terminal."""
    return lambda columns, lines: Text("\n".join(f"row {n}" for n in range(number)))


@contextmanager
def drawn(stream: TextIO, draw: screen.Draw) -> Iterator[Screen]:
    """A screen that is drawn when the test says so, and not by itself."""
    made = Screen(stream, draw)
    made._keep_drawing = lambda: None  # type: ignore[method-assign]
    made._thread = type(made._thread)(target=lambda: None)
    with made:
        made.redraw()
        yield made


def test_what_is_printed_goes_above_it(terminal: Terminal, stream: TextIO) -> None:
    with seated(stream):
        print("before")
        with drawn(stream, picture(3)):
            print("one", "line", flush=True)
            print("begun, ", end="")
            assert terminal.lines == ["before", "one line", "row 0", "row 1", "row 2"]
            print("ended")
            print("to stderr", file=sys.stderr)
            said = ["before", "one line", "begun, ended", "to stderr"]
            assert terminal.lines == [*said, "row 0", "row 1", "row 2"]
            for number in range(20):
                print(f"line {number}")
            assert terminal.lines[-5:] == ["line 18", "line 19", "row 0", "row 1", "row 2"]
            assert terminal.text.count("row 0") == 1
            print("without an end", end="")
        print("!")
        assert terminal.lines[-3:] == ["line 18", "line 19", "without an end!"]
        assert sys.stdout is stream and sys.stderr is stream
        assert b"\x1b[?25l" not in terminal.raw and b"\x1b[?1049h" not in terminal.raw


def test_it_follows_the_size_of_the_terminal(terminal: Terminal, stream: TextIO) -> None:
    def wide(columns: int, lines: int) -> Text:
        return Text("\n".join("x" * (columns - 1) for _ in range(lines + 5)))

    with drawn(stream, wide) as made:
        for columns, rows in ((40, 12), (20, 6), (70, 9), (5, 3), (40, 12)):
            terminal.resize(columns, rows)
            made.redraw()
            assert terminal.lines == ["x" * (columns - 1)] * (rows - 1)
    assert terminal.lines == [""]


def test_lines_that_a_narrower_terminal_has_broken_are_taken_away(
    terminal: Terminal, stream: TextIO
) -> None:
    with drawn(stream, lambda columns, lines: Text("x" * 30 + "\n" + "y" * 9)) as made:
        terminal.read()
        terminal.resize(16, 12)
        assert made._erasure(os.terminal_size((16, 12))) == "\r\x1b[3A\x1b[J"  # 2 lines and 1
        assert made._erasure(os.terminal_size((40, 12))) == "\r\x1b[2A\x1b[J"
        assert (
            made._erasure(os.terminal_size((3, 8))) == "\r\x1b[7A\x1b[J"
        )  # no more than there are


def test_however_it_ends_it_is_gone(terminal: Terminal, stream: TextIO) -> None:
    with seated(stream):
        with pytest.raises(KeyboardInterrupt), drawn(stream, picture(4)):
            raise KeyboardInterrupt
        print("after")
        assert terminal.lines == ["after"]
        assert not screen.active()


def test_it_is_drawn_again_by_itself(
    terminal: Terminal, stream: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with seated(stream):
        monkeypatch.setattr(screen, "REDRAW_SECONDS", 0.01)
        number = 0

        def draw(columns: int, lines: int) -> Text:
            nonlocal number
            number += 1
            if number % 2:
                raise ValueError("what it reads is just being written")
            return Text(f"look {number}")

        with screen.shown(draw):
            assert screen.active()
            terminal.wait_for(lambda lines: lines[0].startswith("look 1"), "ten looks", 20)
        assert terminal.lines == [""]


def test_the_line_of_a_cell_makes_way_for_it(
    terminal: Terminal, stream: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with seated(stream):
        now = 1000.0
        with drawn(stream, picture(1)):
            progress = Progress("cell", None)
            monkeypatch.setattr(time, "monotonic", lambda: now)
            progress.begin("train")
            for done in range(5):
                progress.step(done, 9)
                now += 100
            progress.say("a word")
            assert terminal.lines == ["cell: a word", "row 0"]
        assert Progress("cell", None).live


@pytest.mark.parametrize(
    "asked", [{"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}, {"TERM": ""}]
)
def test_plain_lines_where_they_are_asked_for(
    terminal: Terminal,
    stream: TextIO,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, str],
) -> None:
    with seated(stream):
        assert screen.fits(stream) and not screen.fits(io.StringIO())
        for name, value in asked.items():
            monkeypatch.setenv(name, value)
        with screen.shown(picture(3)):
            assert not screen.active() and sys.stdout is stream
            print("a line")
        assert terminal.raw == b"" and terminal.lines == ["a line"]
        assert terminal.raw == b"a line\r\n"


def test_a_process_that_was_forked_off_draws_nothing(terminal: Terminal, stream: TextIO) -> None:
    with seated(stream), drawn(stream, picture(2)):
        terminal.read()
        if (child := os.fork()) == 0:
            print("from the child", flush=True)
            os._exit(int(screen.active()))
        assert os.waitpid(child, 0)[1] == 0
        assert terminal.lines == ["row 0", "row 1", "from the child"]


def test_a_terminal_that_is_gone_ends_nothing(stream: TextIO, terminal: Terminal) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    with drawn(Gone(), picture(2)) as made:
        assert not made.open
