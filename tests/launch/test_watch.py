"""The table of `status --watch`, and of commands that follow what runs elsewhere, on a terminal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest
from terminal import Terminal

from launch import commands, local, slurm, status
from launch.queue import standing
from launch.status import Status, Submission
from lion_sweep.cell.tasks import CELL, WHEREABOUTS, Attempt, Task
from lion_sweep.config import Config
from lion_sweep.errors import UserError
from lion_sweep.files import write_json
from lion_sweep.machine import board, screen

WHERE = {"stage": "train", "done": 3, "total": 9, "rate": 2.0, "seconds_left": 3, "loss": 0.5}


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal(100, 20)
    yield made
    made.close()


@pytest.fixture
def stream(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """A stream of the terminal, with nothing in the environment that asks for plain lines."""
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(status, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(screen, "REDRAW_SECONDS", 0.01)
    with os.fdopen(os.dup(terminal.slave), "w") as opened:
        yield opened


@pytest.fixture
def make(compose_cell: Callable[..., Config], tmp_path: Path) -> Callable[[str], Task]:
    """A task that was frozen below `tmp_path`."""
    config = compose_cell("site=laptop")

    def made(name: str) -> Task:
        task = Task(CELL, name, replace(config, paths=replace(config.paths, root=str(tmp_path))))
        task.freeze()
        return task

    return made


def test_a_watch_shows_the_table_and_then_the_plain_one(
    make: Callable[[str], Task], terminal: Terminal, stream: TextIO
) -> None:
    task, other = make("cell-1"), make("cell-2")
    looks: list[str] = []

    def seen(*words: str) -> None:
        """Wait until all of that is on the terminal."""
        lines = terminal.wait_for(lambda lines: all(w in "\n".join(lines) for w in words), words)
        looks.extend(lines)

    def survey() -> list[Status]:
        looks.append("")
        number = looks.count("")
        if number == 2:
            seen("train", "━", "3/9", "2/s", "3.0 s", "0.500", "nDCG@10 0.25 on twin")
            seen("1 of 2 finished, about 30 s left, 90 s spent, 1 running")
            raise UserError("SLURM does not answer")
        if number == 3:
            seen("SLURM does not answer", "3/9")
        state = board.RUNNING if number < 3 else board.FINISHED
        return [
            Status(task, state, "7_1", 1, None, "", WHERE, "nDCG@10 0.5 on twin", 30.0),
            Status(other, board.FINISHED, "7_2", 1, None, "", {}, "nDCG@10 0.25 on twin", 60.0),
        ]

    with redirect_stdout(stream):
        assert status.follow(survey) == status.ALL_FINISHED
    assert looks.count("") == 3
    assert terminal.lines[0].split() == ["task", "state", "tries", "job"]
    assert terminal.lines[-1] == "2 finished"


def test_ctrl_c_ends_a_watch_and_nothing_else(
    make: Callable[[str], Task],
    terminal: Terminal,
    stream: TextIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = Status(make("cell-1"), board.RUNNING, "7_1", 1, None, "", WHERE, "")

    def asleep(_: float) -> None:
        terminal.wait_for(lambda lines: "1 running" in lines[-1], "the table", 20)
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", asleep)
    with redirect_stdout(stream):
        assert status.follow(lambda: [row]) == status.UNFINISHED
    assert terminal.lines == ["", "no longer following; the jobs go on."]


def test_the_command_watches_jobs_of_slurm(
    make: Callable[[str], Task],
    terminal: Terminal,
    stream: TextIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make("cell-1")
    Submission("token", "slurm", "7_1").write(task.folder)
    asks = 0

    def line(*words: str) -> None:
        """Wait until one line of the terminal has all of that."""
        terminal.wait_for(lambda lines: any(all(w in one for w in words) for one in lines), words)

    def asked(jobs: set[str]) -> dict[str, object]:
        nonlocal asks
        asks += 1
        if asks == 3:
            line("1b-sparse-cl", "queued", "Priority")
            Attempt.begin(task.folder, "7_1", limit=9)
            write_json(task.folder / WHEREABOUTS, {**WHERE, "time": 0})
            make("cell-2")  # by somebody else
        if asks == 5:
            line("1b-sparse-cl", "running", "3/9")
            scores = {"scores": {"twin": {"nDCG@10": 0.25}}}
            for one in ("cell-1", "cell-2"):
                write_json(task.root / "cells" / one / "result.json", scores)
        state = "PENDING|Priority" if asks < 3 else "RUNNING|None"
        return {"7_1": standing(*state.split("|"), nodes="n1")} if jobs else {}

    monkeypatch.setattr(slurm.queue, "job_states", asked)
    monkeypatch.setattr(commands.command, "composed", lambda overrides: task.config)
    monkeypatch.setattr(sys, "argv", ["status", "--watch"])
    with redirect_stdout(stream), pytest.raises(SystemExit) as left:
        commands.run("status")
    assert left.value.code == status.ALL_FINISHED
    assert terminal.lines[-1] == "2 finished"


def test_what_a_command_does_itself_runs_as_long_as_that_lives(
    make: Callable[[str], Task], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = make("cell-1")

    def state() -> str:
        return local.survey([task])[0].state

    assert state() == board.NEW
    attempt = Attempt.begin(task.folder, "", limit=9)
    assert state() == board.RUNNING
    monkeypatch.setattr(commands.command, "composed", lambda overrides: task.config)
    monkeypatch.setattr(sys, "argv", ["cancel", "cell-1"])
    with pytest.raises(SystemExit):
        commands.run("cancel")
    assert "which Ctrl-C there ends" in capsys.readouterr().out
    for changed in ({"pid": 999_999_999}, {"started": 0.0}, {"node": "elsewhere"}):
        write_json(attempt.path, attempt.record | changed)
        assert state() == board.NEW, changed
    attempt.end(KeyboardInterrupt())
    assert state() == board.NEW


def test_nothing_to_watch_is_refused_at_once(
    make: Callable[[str], Task],
    stream: TextIO,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    config = make("cell-1").config
    empty = replace(config, paths=replace(config.paths, root=str(tmp_path / "empty")))
    monkeypatch.setattr(commands.command, "composed", lambda overrides: empty)
    monkeypatch.setattr(sys, "argv", ["status", "--watch"])
    with redirect_stdout(stream), pytest.raises(SystemExit) as left:
        commands.run("status")
    assert left.value.code == 2
    assert "No cell was ever started" in capsys.readouterr().err
