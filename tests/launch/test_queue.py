"""SLURM's words in ours."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from launch import slurm
from launch.queue import (
    SlurmError,
    _hours,
    array_size,
    in_service,
    job_states,
    jobs_with,
    limits,
    partition_of,
    standing,
)
from launch.requests import request
from launch.status import BLOCKED, CANCELLED, FAILED, FINISHED, QUEUED, RUNNING, Submission
from lion_sweep.cell.tasks import CELL, Attempt, Task
from lion_sweep.errors import Interrupted


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
    found = standing(state, reason)
    assert (found.state, found.failure) == (ours, failure)
    assert found.state != BLOCKED  # only what a task needs can tell that
    if reason == "PartitionTimeLimit":
        assert "lower site.time_limit" in found.reason


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch, **bodies: str) -> None:
    """SLURM's commands as shell scripts, and no others."""
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_cluster_without_accounting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What squeue has forgotten is left out, be accounting switched off or sacct not there."""
    squeue = "echo '7_0|RUNNING|None|n1'; echo '8|PENDING|Priority|'"
    commands(tmp_path, monkeypatch, squeue=squeue)
    expected = {"7_0": standing("RUNNING", "None", "n1")}
    assert job_states(["7_0", "7_1"]) == expected
    off = "echo 'Slurm accounting storage is disabled' >&2; exit 1"
    commands(tmp_path, monkeypatch, squeue=squeue, sacct=off)
    assert job_states(["7_0", "7_1"]) == expected


@pytest.mark.parametrize("asked", ["squeue", "sacct"])
def test_elements_that_ended_before_they_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Of an array that was cancelled while it waited, one element had begun."""
    told = {
        "squeue": "echo '7_2|CANCELLED|None|n1'; echo '7|CANCELLED|Dependency|'",
        "sacct": "echo '7_2|CANCELLED by 0|0:15|n1'; echo '7_[0-1]|CANCELLED by 0|0:0|None'",
    }
    commands(tmp_path, monkeypatch, **({"squeue": "true", "sacct": "true"} | {asked: told[asked]}))
    found = job_states(["7_0", "7_1", "7_2", "8"])
    assert found.keys() == {"7_0", "7_1", "7_2"}
    assert set(found.values()) == {standing("CANCELLED")}  # why it waited says nothing any more


def test_a_held_job_says_what_lets_it_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(tmp_path, monkeypatch, squeue="echo '7_0|PENDING|JobHeldUser|'")
    (held,) = job_states(["7_0"]).values()
    assert (held.state, held.reason) == (
        QUEUED,
        "is held, until somebody says scontrol release 7_0",
    )


PARTITIONS = """echo 'PartitionName=debug Default=YES DefaultTime=00:10:00 MaxTime=1-00:00:00'
echo 'PartitionName=gpu Default=NO DefaultTime=NONE MaxTime=UNLIMITED'"""


def test_limits_of_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(tmp_path, monkeypatch, scontrol=PARTITIONS)
    assert limits(partition_of(None)) == (pytest.approx(1 / 6), 24)
    assert limits(partition_of("gpu")) == (None, None)
    assert limits(partition_of("gpu,debug")) == (None, None)
    with pytest.raises(SlurmError, match="has no partition fast; it has debug, gpu"):
        partition_of("gpu,fast")


@pytest.mark.parametrize(
    ("said", "largest"),
    [("MaxArraySize            = 4001", 4001), ("MaxArraySize = 0", 1), ("SLURM_VERSION=1", 1001)],
)
def test_how_many_elements_an_array_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, largest: int
) -> None:
    commands(tmp_path, monkeypatch, scontrol=f"echo 'X = 1'; echo '{said}'; echo 'Y = 2'")
    assert array_size() == largest


@pytest.mark.parametrize(
    ("said", "found"),
    [("drain", False), ("down*\ndrng\ndrain*", False), ("drain\nidle", True), ("mix-", True)],
)
def test_whether_a_node_is_in_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, found: bool
) -> None:
    asked = tmp_path / "asked"
    commands(tmp_path, monkeypatch, sinfo=f"echo $@ > {asked}\nprintf '{said}'")
    assert in_service({"PartitionName": "gpu"}) == found
    assert asked.read_text() == "-h -o %t -p gpu\n"
    assert in_service({}) == found
    assert asked.read_text() == "-h -o %t\n"


@pytest.mark.parametrize(
    ("said", "nodes", "refused"),
    [
        ("Requested node configuration is not available", "drain", False),
        ("Requested node configuration is not available", "drain\nidle", True),
        ("unrecognized option", "drain", True),
    ],
)
def test_a_cluster_out_of_service_is_not_taken_for_a_refusal(
    compose_cell: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    nodes: str,
    refused: bool,
) -> None:
    task = Task(CELL, "cell", compose_cell("site=slurm"))
    commands(
        tmp_path,
        monkeypatch,
        scontrol=PARTITIONS,
        sinfo=f"printf '{nodes}'",
        sbatch=f"echo '{said}' >&2; exit 1",
    )
    with pytest.raises(SlurmError, match=said) if refused else nullcontext():
        slurm.rehearse(request(task, []), task)


def test_jobs_are_found_by_their_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(
        tmp_path, monkeypatch, squeue="echo '7|cafe,1b-dense-cl'; echo '8|(null)'; echo '7|cafe,x'"
    )
    assert jobs_with("cafe") == ["7"]


def test_accounting_that_fails_is_not_taken_for_jobs_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who took them for gone would submit them once more."""
    commands(tmp_path, monkeypatch, squeue="true", sacct="echo no database >&2; exit 1")
    with pytest.raises(SlurmError, match="sacct failed: no database"):
        job_states(["7"])


def test_a_job_that_stopped_as_asked_has_not_failed_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose_cell: Any
) -> None:
    """It was to go on, and does when the command is given again, whatever site.retry says."""
    config = compose_cell(f"paths.root={tmp_path}", "site.retry=none")
    task = Task(CELL, "cell", config)
    attempt = Attempt.begin(task.folder, "7", limit=3)
    Submission("token", slurm.NAME, "7").write(task.folder)
    commands(tmp_path, monkeypatch, squeue="echo '7|FAILED|NonZeroExitCode|n1'")
    (killed,) = slurm.survey([task])
    assert killed.failure == {"class": "killed", "message": "SLURM says FAILED NonZeroExitCode"}
    assert not slurm.wants(killed, config.site.retry)
    attempt.end(Interrupted("stopped by SIGUSR2"))
    (stopped,) = slurm.survey([task])
    assert (stopped.state, stopped.failure["class"]) == (FAILED, "interrupted")
    assert "NonZeroExitCode" in stopped.failure["message"]
    assert slurm.wants(stopped, config.site.retry)
