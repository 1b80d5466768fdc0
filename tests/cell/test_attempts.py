"""Attempts at a task: numbered, fenced, given up when nothing new is kept."""

import errno
import json
from pathlib import Path

import pytest
import torch

from lion_sweep.cell.tasks import WHEREABOUTS, Attempt, failure_class, read_attempts
from lion_sweep.errors import Collapse, Interrupted, NoProgress, NotFinite, OutOfMemory, UserError
from lion_sweep.files import write_json
from lion_sweep.machine.progress import Progress


def keep(folder: Path, step: int) -> None:
    """As a process that kept the first `step` steps of its training."""
    progress = Progress("cell", None, folder / WHEREABOUTS)
    progress.begin("train")
    progress.kept(step)


def test_a_record_from_the_first_to_the_last_moment(tmp_path: Path) -> None:
    first = Attempt.begin(tmp_path, "7_1", limit=3)
    (running,) = read_attempts(tmp_path)
    assert (running["number"], running["job"], running["outcome"]) == (1, "7_1", "running")
    first.end(Interrupted("stopped by SIGUSR2"))
    Attempt.begin(tmp_path, "7_1", limit=3).end(ValueError("no such thing"))
    Attempt.begin(tmp_path, "8", limit=3).end(None)
    records = read_attempts(tmp_path)
    assert [record["outcome"] for record in records] == ["interrupted", "failed", "finished"]
    assert records[1]["failure"] == {"class": "code", "message": "ValueError: no such thing"}
    assert records[0]["ended"] >= records[0]["started"]


def test_given_up_after_attempts_that_kept_nothing_new(tmp_path: Path) -> None:
    for _ in range(3):
        Attempt.begin(tmp_path, "1", limit=3)  # killed: no end is recorded
    with pytest.raises(NoProgress, match="3 attempts in a row"):
        Attempt.begin(tmp_path, "1", limit=3)
    assert read_attempts(tmp_path)[-1]["failure"]["class"] == "no progress"
    Attempt.begin(tmp_path, "2", limit=3)  # submitted again on purpose: counted from there


def test_a_command_may_be_given_as_often_as_one_likes(tmp_path: Path) -> None:
    for _ in range(5):
        Attempt.begin(tmp_path, "", limit=2)


def test_attempts_that_keep_something_go_on_for_ever(tmp_path: Path) -> None:
    for step in range(10):
        Attempt.begin(tmp_path, "1", limit=2)
        keep(tmp_path, 10 * step)


def test_whereabouts(tmp_path: Path) -> None:
    path = tmp_path / WHEREABOUTS
    progress = Progress("cell", None, path)
    progress.begin("adapt")
    progress.end("adapt", 1.0, reused=True)
    progress.begin("train")
    progress.begin("negatives")  # asked for by training
    progress.end("negatives", 1.0, reused=True)
    progress.kept(40)
    told = json.loads(path.read_text())
    assert (told["stage"], told["done"]) == ("train", 40)
    assert told["mark"] == ["adapt", "negatives", "train 40"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotFinite("nan"), "NaN"),
        (Collapse("empty"), "collapse"),
        (UserError("lower it"), "configuration"),
        (OutOfMemory("lower it"), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk full"),
        (OSError(errno.ENOENT, "No such file"), "code"),
        (RuntimeError("shape"), "code"),
    ],
)
def test_failure_classes(error: BaseException, expected: str) -> None:
    assert failure_class(error) == expected


def test_a_record_that_a_kill_left_empty_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "0001.json").touch()
    write_json(tmp_path / WHEREABOUTS, {"mark": ["train 0"]})
    assert Attempt.begin(tmp_path, "1", limit=1).record["number"] == 2
    assert read_attempts(tmp_path)[0] == {}
