"""What is remembered of a task's submission, in the task's folder.

The record is written before the job is submitted, with a token that the job's name carries, and
again with the job's id. So a launcher that was killed in between has left a trace by which the
next one finds the job.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lion_sweep.files import read_json, write_json

SUBMISSION = "submission.json"


@dataclass(frozen=True)
class Submission:
    """A task's last submission; `job` is None until the scheduler has given it an id."""

    token: str
    launcher: str
    job: str | None = None
    time: float | None = None
    request: dict[str, Any] | None = None

    def write(self, folder: Path) -> None:
        write_json(folder / SUBMISSION, asdict(self))


def read_submission(folder: Path) -> Submission | None:
    """The last submission of the task in `folder`, or None."""
    path = folder / SUBMISSION
    return Submission(**read_json(path)) if path.is_file() else None


def job_of(folder: Path, launcher: str) -> str:
    """The job that a launcher has the task in `folder` done by; empty where there is none."""
    record = read_submission(folder)
    return (record.job or "") if record and record.launcher == launcher else ""


def job_log(root: Path, job: str) -> Path:
    """What the job's first rank, and SLURM on its behalf, have printed."""
    return root / "jobs" / job / f"{job}_0_log.out"
