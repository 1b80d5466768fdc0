"""A job and the folder of its task, which other jobs may have been given meanwhile."""

import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch import job
from launch.job import Job
from launch.records import Submission
from lion_sweep.cell import work
from lion_sweep.cell.tasks import CELL, Task
from lion_sweep.errors import Interrupted


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
    with pytest.raises(SystemExit):
        Job(task.folder, "token")()
    assert found == done


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
