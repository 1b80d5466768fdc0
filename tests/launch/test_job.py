"""A job and the folder of its task, which other jobs may have been given meanwhile."""

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from launch import job
from launch.job import Job
from launch.status import Submission
from lion_sweep.cell import work
from lion_sweep.cell.tasks import CELL, Task
from lion_sweep.errors import Interrupted, Superseded, UserError
from lion_sweep.stages import workshop
from lion_sweep.stages.engine import Team


def test_a_folder_that_shows_late_is_waited_for(tmp_path: Path) -> None:
    late = threading.Timer(0.7, lambda: Submission("token", "slurm").write(tmp_path))
    late.start()
    assert Job(tmp_path, "token").has_the_task()
    late.join()


@pytest.mark.parametrize("written", [None, "other"])
def test_a_job_whose_task_another_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str | None
) -> None:
    monkeypatch.setattr(job, "LAG_SECONDS", 0)
    if written:
        Submission(written, "slurm").write(tmp_path)
    assert not Job(tmp_path, "token").has_the_task()


@pytest.mark.parametrize(
    ("rank", "received", "done"),
    [
        (0, signal.SIGUSR2, ["requeue"]),
        (0, None, ["requeue"]),  # it was another rank that the signal had reached
        (1, signal.SIGUSR2, ["wait"]),  # lest SLURM ends the first one before it has asked
        (0, signal.SIGTERM, ["wait"]),
    ],
)
def test_who_asks_to_be_queued_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compose_cell: Any,
    rank: int,
    received: int | None,
    done: list[str],
) -> None:
    def stop(*_: object) -> None:
        raise Interrupted("stopped")

    found: list[str] = []
    environment = SimpleNamespace(cluster="slurm", global_rank=rank, num_tasks=1, job_id="7")
    monkeypatch.setattr(job.submitit, "JobEnvironment", lambda: environment)
    monkeypatch.setattr(job.interruption, "listen", lambda *_: None)
    monkeypatch.setattr(job.interruption, "received", lambda: received)
    monkeypatch.setattr(job, "_watch", lambda *_: None)
    monkeypatch.setattr(job, "_requeue", lambda _: found.append("requeue"))
    monkeypatch.setattr(job.time, "sleep", lambda _: found.append("wait"))
    monkeypatch.setattr(work, "do", stop)
    task = Task(CELL, "cell", compose_cell(f"paths.root={tmp_path}"))
    task.freeze()
    Submission("token", "slurm").write(task.folder)
    with pytest.raises(SystemExit) as left:
        Job(task.folder, "token")()
    assert found == done
    assert left.value.code == 143  # as who dies of SIGTERM; 0 would start what waits for it


class Node:
    """A job's environment, without the scheduler; what it was asked to do, and with what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, task: Task, **known: Any) -> None:
        self.task, self.done, self.watched = task, [], []
        standard = {"cluster": "slurm", "global_rank": 0, "num_tasks": 1, "job_id": "7_2"}
        environment = SimpleNamespace(**(standard | known))
        monkeypatch.setattr(job.submitit, "JobEnvironment", lambda: environment)
        monkeypatch.setattr(job.interruption, "listen", lambda *signals: self.done.append(signals))
        monkeypatch.setattr(job, "_watch", lambda *args: self.watched.append(args))
        monkeypatch.setattr(work, "do", self.do)
        self.error: BaseException | None = None

    def do(self, task: Task, site: object, name: str, team: object) -> None:
        self.done.append((task, name, team))
        if self.error:
            raise self.error

    def run(self, token: str = "token") -> None:
        Job(self.task.folder, token)()


@pytest.fixture
def task(tmp_path: Path, compose_cell: Any) -> Task:
    """Frozen, and given to the job with the token."""
    made = Task(CELL, "cell", compose_cell(f"paths.root={tmp_path}", "site.slurm.signal=100"))
    made.freeze()
    Submission("token", "slurm").write(made.folder)
    return made


def test_a_job_does_its_task_and_listens_first(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, task)
    node.run()
    listened, (done, name, team) = node.done
    assert set(listened) == {signal.SIGUSR2, signal.SIGTERM}
    assert (done, name, type(team)) == (task, "7_2", Team)
    assert node.watched == [("7_2", pytest.approx(70))]  # of 100 s before the limit


def test_a_job_that_lost_its_task_does_nothing(
    task: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "LAG_SECONDS", 0)
    node = Node(monkeypatch, task)
    node.run("another token")
    assert node.done == [] and "in vain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (None, None),
        (Superseded("train goes on in another process."), None),  # which is no failure
        (UserError("lower it"), UserError),  # whose status submitit makes one that is not 0
        (Interrupted("stopped"), SystemExit),
    ],
)
def test_how_a_job_ends_on_one_machine(
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    raised: type[BaseException] | None,
) -> None:
    """Nobody puts it back into a queue, and nobody has to be waited for."""
    node = Node(monkeypatch, task, cluster="local")
    node.error, slept = error, []
    monkeypatch.setattr(job, "_requeue", lambda name: slept.append("requeue"))
    monkeypatch.setattr(job.time, "sleep", slept.append)
    if raised is None:
        node.run()
    else:
        with pytest.raises(raised) as left:
            node.run()
        assert raised is not SystemExit or left.value.code == 143  # type: ignore[attr-defined]
    assert slept == [] and node.watched == []


@pytest.mark.parametrize(("nodes", "first"), [(1, "127.0.0.1"), (2, "10.0.0.7")])
def test_ranks_find_each_other(
    task: Task, monkeypatch: pytest.MonkeyPatch, nodes: int, first: str
) -> None:
    known = {"num_tasks": 4, "num_nodes": nodes, "global_rank": 3, "local_rank": 1}
    node = Node(monkeypatch, task, **known)
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.7")
    monkeypatch.setattr(workshop, "Ranks", lambda cpu: ("ranks", cpu))
    joined = ["MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE"]
    for name in joined:
        monkeypatch.setenv(name, "")
    node.run()
    assert [os.environ[name] for name in joined] == [first, "20072", "3", "1", "4"]
    assert node.done[-1][2] == ("ranks", not torch.cuda.is_available())
    assert node.watched == []  # the first rank watches for all


def test_a_controller_that_does_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who left instead would count as failed."""
    asked = tmp_path / "asked"
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        f'#!/bin/sh\necho "$*" >> {asked}\n'
        f"[ $(wc -l < {asked}) -gt 2 ] || {{ echo no answer >&2; exit 1; }}\n"
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(job, "RETRY_SECONDS", 0)
    job._requeue("7_1")
    assert asked.read_text() == "requeue 7_1\n" * 3
    assert capsys.readouterr().out == "scontrol requeue failed: no answer\n" * 2
    asked.unlink()
    monkeypatch.setattr(job, "GRACE_SECONDS", -1)
    with pytest.raises(SystemExit):  # it never answers: the job has to end
        job._requeue("7_1")
