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

from launch import commands, slurm, status
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
    looks: list[list[str]] = []

    def survey() -> list[Status]:
        looks.append(terminal.lines)
        if len(looks) == 2:
            raise UserError("SLURM does not answer")
        state = board.RUNNING if len(looks) < 6 else board.FINISHED
        return [
            Status(task, state, "7_1", 1, None, "", WHERE, "nDCG@10 0.5 on twin", 30.0),
            Status(other, board.FINISHED, "7_2", 1, None, "", {}, "nDCG@10 0.25 on twin", 60.0),
        ]

    with redirect_stdout(stream):
        assert status.follow(survey) == status.ALL_FINISHED
    seen = "\n".join(line for look in looks for line in look)
    for text in ("train", "━", "3/9", "2/s", "3.0 s", "0.500", "nDCG@10 0.25 on twin"):
        assert text in seen
    assert "1 of 2 finished, about 30 s left, 90 s spent, 1 running" in seen
    assert "SLURM does not answer" in seen
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
    task, states = make("cell-1"), ["PENDING|Priority"] * 3 + ["RUNNING|None"]
    Submission("token", "slurm", "7_1").write(task.folder)
    shown: list[str] = []

    def asked(jobs: set[str]) -> dict[str, object]:
        shown.append(terminal.lines[1] if len(terminal.lines) > 1 else "")
        if len(shown) == 4:
            Attempt.begin(task.folder, "7_1", limit=9)
            write_json(task.folder / WHEREABOUTS, {**WHERE, "time": 0})
            make("cell-2")  # by somebody else
        if len(shown) == 8:
            scores = {"scores": {"twin": {"nDCG@10": 0.25}}}
            for one in ("cell-1", "cell-2"):
                write_json(task.root / "cells" / one / "result.json", scores)
        state = states.pop(0) if len(states) > 1 else states[0]
        return {"7_1": standing(*state.split("|"), nodes="n1")} if jobs else {}

    monkeypatch.setattr(slurm.queue, "job_states", asked)
    monkeypatch.setattr(commands.command, "composed", lambda overrides: task.config)
    monkeypatch.setattr(sys, "argv", ["status", "--watch"])
    with redirect_stdout(stream), pytest.raises(SystemExit) as left:
        commands.run("status")
    assert left.value.code == status.ALL_FINISHED
    assert any("queued" in line and "Priority" in line for line in shown)
    assert any("running" in line and "3/9" in line for line in shown)
    assert terminal.lines[-1] == "2 finished"


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
