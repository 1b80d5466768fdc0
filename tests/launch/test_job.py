"""A job and the folder of its task, which other jobs may have been given meanwhile."""

import threading
from pathlib import Path

import pytest

from launch import job
from launch.job import Job
from launch.records import Submission


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
