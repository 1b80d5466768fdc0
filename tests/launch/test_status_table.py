"""Every state that a task can be in: what `status` prints, and what the command exits with."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra import initialize_config_dir

from launch import commands, local, slurm, status
from launch.queue import standing
from launch.status import Submission, job_log
from lion_sweep import config as configuration
from lion_sweep.cell.tasks import ADAPT, CELL, Attempt, Task
from lion_sweep.config.composing import compose
from lion_sweep.config.schema import Config, StatusFormat
from lion_sweep.errors import Collapse, Interrupted, NotFinite, UserError
from lion_sweep.files import write_json

JOB = "7_1"
SCORES = {"scores": {"twin": {"nDCG@10": 0.25, "MRR@10": 1}, "more": {"nDCG@10": 0.5}}}
CODE = ValueError("no such thing")
STOPPED = Interrupted("stopped by SIGUSR2")


class Case(NamedTuple):
    """What is known of a task, and what status makes of it: state, remark, failure, exit."""

    submitted: str | None  # to whom
    slurm: str | None  # what it says
    attempts: list[BaseException | None]  # how they ended
    result: bool
    shown: tuple[str, str, str | None, int]


NOBODY, KILLED = None, "SLURM says FAILED NonZeroExitCode"
FAILED = "FAILED|NonZeroExitCode"
CASES = {
    "never begun": Case(NOBODY, None, [], False, ("new", "", None, 3)),
    "stopped in a shell": Case(NOBODY, None, [STOPPED], False, ("new", "", None, 3)),
    "failed in a shell": Case(NOBODY, None, [CODE], False, ("failed", "code", "code", 4)),
    "failed, then stopped": Case(NOBODY, None, [CODE, STOPPED], False, ("new", "", None, 3)),
    "interrupted in a shell": Case(
        NOBODY, None, [KeyboardInterrupt()], False, ("new", "", None, 3)
    ),
    "finished in a shell": Case(
        NOBODY, None, [None], True, ("finished", "nDCG@10 0.2500 on twin", None, 0)
    ),
    "finished after a failure": Case(
        NOBODY, None, [CODE, None], True, ("finished", "nDCG@10 0.2500 on twin", None, 0)
    ),
    "waits": Case("slurm", "PENDING|Priority", [], False, ("queued", "Priority", None, 3)),
    "waits for ever": Case(
        "slurm",
        "PENDING|DependencyNeverSatisfied",
        [],
        False,
        ("queued", "what it needs has failed", None, 3),
    ),
    "runs": Case("slurm", "RUNNING|None", [], False, ("running", "n1", None, 3)),
    "runs again": Case("slurm", "RUNNING|None", [CODE], False, ("running", "n1", None, 3)),
    "waits again": Case("slurm", "REQUEUED|None", [STOPPED], False, ("queued", "", None, 3)),
    "leaves": Case(
        "slurm", "COMPLETING|None", [None], True, ("finished", "nDCG@10 0.2500 on twin", None, 0)
    ),
    "was cancelled, but had finished": Case(
        "slurm", "CANCELLED|None", [None], True, ("finished", "nDCG@10 0.2500 on twin", None, 0)
    ),
    "left nothing": Case(
        "slurm", "COMPLETED|0:0", [None], False, ("failed", "killed", "killed", 4)
    ),
    "died": Case("slurm", FAILED, [], False, ("failed", "killed", "killed", 4)),
    "failed": Case("slurm", FAILED, [NotFinite("nan")], False, ("failed", "NaN", "NaN", 4)),
    "collapsed": Case(
        "slurm", FAILED, [Collapse("empty")], False, ("failed", "collapse", "collapse", 4)
    ),
    "was stopped and not queued again": Case(
        "slurm", FAILED, [STOPPED], False, ("failed", "interrupted", "interrupted", 4)
    ),
    "took too long": Case(
        "slurm", "TIMEOUT|0:0", [], False, ("failed", "time limit", "time limit", 4)
    ),
    "outgrew its memory": Case(
        "slurm", "OUT_OF_MEMORY|0:9", [], False, ("failed", "out of memory", "out of memory", 4)
    ),
    "was cancelled": Case("slurm", "CANCELLED|0:15", [], False, ("cancelled", "", None, 3)),
    "was forgotten": Case("slurm", None, [], False, ("failed", "lost", "lost", 4)),
    "was forgotten after a failure": Case(
        "slurm", None, [CODE], False, ("failed", "code", "code", 4)
    ),
    "lives": Case("local", "lives", [CODE], False, ("running", "", None, 3)),
    "has died": Case("local", "dead", [], False, ("failed", "killed", "killed", 4)),
    "has another's number": Case("local", "other", [], False, ("failed", "killed", "killed", 4)),
    "failed by itself": Case("local", "dead", [CODE], False, ("failed", "code", "code", 4)),
}


@pytest.fixture(scope="module")
def composed() -> Config:
    """The defaults, composed once for all of these tests."""
    configuration.register()
    with initialize_config_dir(str(configuration.config_folder()), version_base="1.3"):
        return compose(["site=laptop"])


@pytest.fixture
def make(composed: Config, tmp_path: Path) -> Callable[..., Task]:
    """A task that was frozen below `tmp_path`."""

    def made(kind: str = CELL, name: str = "cell-1", needs: tuple[str, ...] = ()) -> Task:
        config = replace(composed, paths=replace(composed.paths, root=str(tmp_path)))
        task = Task(kind, name, config, needs)
        task.freeze()
        return task

    return made


@pytest.fixture
def living() -> Iterator[str]:
    """The number of a process that looks like one of ours."""
    words = [sys.executable, "-c", "import time; time.sleep(99)", "launch.ranks"]
    process = subprocess.Popen(words)
    yield str(process.pid)
    process.kill()
    process.wait()


def ended(task: Task, job: str, *errors: BaseException | None) -> None:
    """Attempts that ended so."""
    for error in errors:
        Attempt.begin(task.folder, job, limit=9).end(error)


def told(monkeypatch: pytest.MonkeyPatch, **states: str) -> None:
    """SLURM's answer, as STATE|REASON by job."""
    rows = {job: standing(*state.split("|"), nodes="n1") for job, state in states.items()}
    monkeypatch.setattr(slurm.queue, "job_states", lambda jobs: rows if {*jobs} else {})


def run(
    monkeypatch: pytest.MonkeyPatch, command: str, task: Task, *words: str, shown: str = "table"
) -> int:
    """The exit status of a command beside the grid, on the folder that the task lies in."""
    format_ = replace(task.config.status, format=StatusFormat[shown])
    config = replace(task.config, status=format_)
    # Composing takes a while.
    monkeypatch.setattr(commands.command, "composed", lambda overrides: config)
    monkeypatch.setattr(sys, "argv", [command, *words])
    with pytest.raises(SystemExit) as left:
        commands.run(command)
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize("name", CASES)
def test_where_a_task_is(
    make: Callable[..., Task],
    living: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    case, task = CASES[name], make()
    numbers = {"lives": living, "dead": "999999999", "other": str(os.getppid())}
    job = numbers[str(case.slurm)] if case.submitted == "local" else JOB
    if case.submitted:
        Submission("token", case.submitted, job).write(task.folder)
    ended(task, job if case.submitted else "", *case.attempts)
    if case.result:
        write_json(task.folder / "result.json", SCORES)
    told(monkeypatch, **({job: case.slurm} if case.submitted == "slurm" and case.slurm else {}))
    state, remark, failure, code = case.shown
    assert run(monkeypatch, "status", task, shown="json") == code
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["state"], row["job"]) == (state, job if case.submitted else None)
    assert row["attempts"] == len(case.attempts)
    assert (row["failure"] or {}).get("class") == failure
    assert run(monkeypatch, "status", task) == code
    head, line, *below = capsys.readouterr().out.splitlines()
    assert head.split() == ["task", "state", "tries", "job"]
    columns = ["1b-sparse-cl", state, str(len(case.attempts)), row["job"] or "-"]
    assert line.split(maxsplit=4) == [*columns, *([remark] if remark else [])]
    assert below[-1] == f"1 {state}"
    assert any("site.retry=failed" in line for line in below) == (state == "failed")
    if failure:
        assert f"{failure} (1): 1b-sparse-cl" in below
        assert f"  {row['failure']['message']}" in below


def test_who_waits_for_what_has_failed_is_blocked(
    make: Callable[..., Task], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapt, other = make(ADAPT, "adapt-1"), make(ADAPT, "adapt-2")
    waits, lone = make(CELL, "cell-1", ("adapt-1",)), make(CELL, "cell-2", ("adapt-2",))
    for number, task in enumerate((adapt, other, waits, lone)):
        Submission("token", "slurm", f"7_{number}").write(task.folder)
    states = {"7_0": "TIMEOUT|0:0", "7_1": "RUNNING|None", "7_2": "CANCELLED|", "7_3": "CANCELLED|"}
    told(monkeypatch, **states)
    assert run(monkeypatch, "status", waits) == 4
    table = capsys.readouterr().out
    assert "adapt 1b failed" in table
    assert table.splitlines()[-1] == "1 failed, 1 running, 1 blocked, 1 cancelled"


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["finished", "finished"], 0),
        (["finished", "cancelled"], 3),
        (["finished", "new"], 3),
        (["running", "queued"], 3),
        (["running", "failed", "finished"], 4),
        (["blocked", "cancelled"], 4),
    ],
)
def test_one_exit_status_for_all(
    make: Callable[..., Task], capsys: pytest.CaptureFixture[str], states: list[str], code: int
) -> None:
    tasks = [make(name=f"cell-{number}") for number in range(len(states))]
    rows = [
        status.Status(task, state, "", 0, None, "", {}, "")
        for task, state in zip(tasks, states, strict=True)
    ]
    assert status.exit_status(rows) == code
    if not {*states} & {"new", "running", "queued"}:
        assert status.follow(lambda: rows) == code
        assert status.as_table(rows) in capsys.readouterr().out


def test_following_ends_with_the_last_task_or_with_ctrl_c(
    make: Callable[..., Task], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = make()

    def row(state: str, reason: str = "") -> list[status.Status]:
        return [status.Status(task, state, JOB, 1, None, reason, {}, "")]

    def survey() -> list[status.Status]:
        found = answers.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(status.time, "sleep", lambda _: None)
    answers: list[Any] = [row("queued"), UserError("busy"), row("queued"), row("running", "n1")]
    answers += [row("running", "n1"), row("cancelled")]
    assert status.follow(survey) == 3
    printed = capsys.readouterr()
    assert printed.out.count("1b-sparse-cl: running n1") == 1 and "busy" in printed.err
    answers = [row("running"), KeyboardInterrupt()]
    assert status.follow(survey) == 3
    assert "the jobs go on" in capsys.readouterr().out


def test_what_is_cancelled_and_whose_logs_are_shown(
    make: Callable[..., Task], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, waits, runs, failed = (make(name=f"cell-{number}") for number in range(4))
    for task, job in ((waits, "7_0"), (runs, "7_1"), (failed, "7_2")):
        Submission("token", "slurm", job).write(task.folder)
    Submission("token", "local", "4711").write(here.folder)
    told(monkeypatch, **{"7_0": "PENDING|", "7_1": "RUNNING|", "7_2": FAILED})
    ended_jobs: list[str] = []
    monkeypatch.setattr(slurm.queue, "cancel", lambda jobs: ended_jobs.extend(jobs))
    monkeypatch.setattr(local, "cancel", lambda job: ended_jobs.append(f"process {job}"))
    monkeypatch.setattr(local, "_process", lambda job: job)
    assert run(monkeypatch, "cancel", waits, "cell-1") == 0
    assert ended_jobs == ["7_0"]
    assert run(monkeypatch, "cancel", waits, "all") == 0
    assert ended_jobs[1:] == ["process 4711", "7_0", "7_1"]
    assert run(monkeypatch, "cancel", waits) == 2
    capsys.readouterr()
    ended(runs, "7_1", None)
    (runs.folder / "log.txt").write_text("what it did")
    job_log(runs.root, "7_1").parent.mkdir(parents=True)
    job_log(runs.root, "7_1").write_text("what SLURM said")
    assert run(monkeypatch, "logs", runs, "cell-2") == 0
    shown = capsys.readouterr().out
    assert shown.index("what it did") < shown.index("what SLURM said")
    assert run(monkeypatch, "logs", runs, "cell-3") == 0
    assert "what" not in capsys.readouterr().out
