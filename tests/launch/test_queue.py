"""SLURM's words in ours."""

import pytest

from launch import slurm
from launch.queue import JobState, _hours
from lion_sweep.status import BLOCKED, CANCELLED, FAILED, FINISHED, QUEUED, RUNNING


@pytest.mark.parametrize(
    ("text", "hours"),
    [("00:10:00", 1 / 6), ("1-00:00:00", 24), ("7-12:30:00", 180.5), ("UNLIMITED", None)],
)
def test_hours(text: str, hours: float | None) -> None:
    assert _hours(text) == pytest.approx(hours)


@pytest.mark.parametrize(
    ("state", "reason", "ours", "failure"),
    [
        ("PENDING", "Priority", QUEUED, ""),
        ("PENDING", "PartitionTimeLimit", QUEUED, ""),
        ("REQUEUED", "", QUEUED, ""),
        ("RUNNING", "None", RUNNING, ""),
        ("COMPLETING", "", RUNNING, ""),
        ("COMPLETED", "0:0", FINISHED, ""),
        ("CANCELLED", "0:15", CANCELLED, ""),
        ("TIMEOUT", "0:0", FAILED, "time limit"),
        ("OUT_OF_MEMORY", "0:125", FAILED, "out of memory"),
        ("NODE_FAIL", "1:0", FAILED, "node failure"),
        ("PREEMPTED", "0:15", FAILED, "preempted"),
        ("FAILED", "1:0", FAILED, ""),
    ],
)
def test_states(state: str, reason: str, ours: str, failure: str) -> None:
    found = slurm.standing(JobState(state, reason))
    assert (found.state, found.failure) == (ours, failure)
    assert found.state != BLOCKED  # only what a task needs can tell that
    if reason == "PartitionTimeLimit":
        assert "lower site.time_limit" in found.reason
