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
