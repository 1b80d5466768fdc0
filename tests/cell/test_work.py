"""A task done in this process: what is recorded of it, and what it may be done for."""

import json
import os
import platform
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import TINY, results

from lion_sweep.cell import work
from lion_sweep.cell.tasks import ADAPT, CELL, ENCODE, TEACHER, TRAIN, Task, read_attempts, tasks_of
from lion_sweep.config import Config
from lion_sweep.config.site import SiteName
from lion_sweep.errors import Interrupted, NoProgress, OutOfMemory, Superseded, UserError
from lion_sweep.machine.site import settle
from lion_sweep.plan.planner import Planner
from lion_sweep.stages import engine
from lion_sweep.stages.engine import Team

Compose = Callable[..., Config]


class Follower(Team):
    """A rank that does not lead."""

    leads = False


@pytest.fixture
def task(compose_cell: Compose, tmp_path: Path) -> Task:
    """Frozen."""
    config = compose_cell(f"paths.root={tmp_path}", "site.attempts=2", "site.devices=1")
    made = Task(CELL, "cell-1", config)
    made.freeze()
    return made


def doing(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> list[Any]:
    """What is done instead of the task; the workshops that it was done in."""
    seen: list[Any] = []

    def do(task: Task, workshop: Any) -> None:
        seen.append(workshop)
        if error:
            raise error

    monkeypatch.setattr(work, "_do", do)
    return seen


@pytest.mark.parametrize(
    ("error", "outcome", "failure"),
    [
        (None, "finished", None),
        (Interrupted("stopped by SIGTERM"), "interrupted", None),
        (Superseded("train goes on"), "superseded", None),
        (KeyboardInterrupt(), "interrupted", None),
        (BrokenPipeError(32, "Broken pipe"), "interrupted", None),
        (OutOfMemory("lower it"), "failed", {"class": "out of memory", "message": "lower it"}),
        (
            RuntimeError("shape"),
            "failed",
            {"class": "code", "message": "RuntimeError: shape"},
        ),
    ],
)
def test_how_an_attempt_ends(
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    outcome: str,
    failure: dict[str, str] | None,
) -> None:
    seen = doing(monkeypatch, error)
    if error:
        with pytest.raises(type(error)):
            work.do(task, SiteName.laptop)
        assert type(error).__name__ in (task.folder / "log.txt").read_text()
    else:
        work.do(task, SiteName.laptop).say("it is done")
        assert "it is done" in (task.folder / "log.txt").read_text()
    (record,) = read_attempts(task.folder)
    assert (record["outcome"], record["failure"], record["job"]) == (outcome, failure, "")
    assert record["ended"] >= record["started"]
    (workshop,) = seen
    assert workshop.owner == task.name and workshop.root == task.root


def test_a_job_takes_over_and_a_command_waits(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    fenced: list[tuple[Path, str]] = []
    monkeypatch.setattr(engine, "fence_off", lambda *args: fenced.append(args))
    doing(monkeypatch, None)
    work.do(task, SiteName.laptop)
    assert fenced == []
    work.do(task, SiteName.laptop, "7_1")
    assert fenced == [(task.root, "cell-1")]
    assert [record["job"] for record in read_attempts(task.folder)] == ["", "7_1"]


def test_one_attempt_of_all_ranks_and_only_so_many_in_vain(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = doing(monkeypatch, None)
    work.do(task, SiteName.laptop, "7_1", Follower())
    assert read_attempts(task.folder) == [] and len(seen) == 1
    assert not (task.folder / "log.txt").exists()
    for _ in range(2):
        work.do(task, SiteName.laptop, "7_1")
    with pytest.raises(NoProgress, match="2 attempts in a row"):
        work.do(task, SiteName.laptop, "7_1")
    assert len(seen) == 3


@pytest.mark.parametrize("kind", [CELL, ENCODE])
def test_a_task_of_texts_that_have_changed_is_refused(
    compose_cell: Compose, small_beir: Path, tmp_path: Path, kind: str
) -> None:
    """What would be done is not what its name says, and others wait for."""
    words = [*TINY, "budget=steps", "budget.steps=1", f"data.path={small_beir}"]
    config = settle(compose_cell(*words, f"paths.root={tmp_path}"), SiteName.laptop)
    task = Task(kind, f"{kind}-of-other-texts", config, (), 1)
    task.freeze()
    with pytest.raises(UserError, match="was asked for with other files"):
        work.do(task, SiteName.laptop)


def tasks_of_a_cell(config: Config) -> list[Task]:
    """In the order in which they can be done."""
    return tasks_of([Planner(SiteName.laptop).cell(settle(config, SiteName.laptop))])


def test_a_task_does_its_own_work_and_no_other(
    compose_cell: Compose, small_beir: Path, tmp_path: Path
) -> None:
    """What it leaves undone is done twice by those that wait for it, at the same time."""
    words = ["paradigm=dense", "loss=kd", "budget=steps", "budget.steps=1"]
    spread = ["site=laptop", "site.encode_jobs=2", "site.shard_tokens=2000"]
    own = [f"data.path={small_beir}", f"paths.root={tmp_path}"]
    tasks = tasks_of_a_cell(compose_cell(*TINY, *words, *spread, *own))
    kinds = [ADAPT, TEACHER, TRAIN, ENCODE, ENCODE, CELL]
    assert [task.kind for task in tasks] == kinds
    for task in tasks:
        task.freeze()
    for number, task in enumerate(tasks):
        assert [task.complete for task in tasks].count(True) == number
        work.do(Task.thaw(task.folder), SiteName.laptop)
        assert [task.complete for task in tasks[: number + 1]] == [True] * (number + 1)
        # The first encoding job leaves nothing to the second; the cell puts all together.
        shards, whole = (
            [json.loads(path.read_text()) for path in tmp_path.glob(f"stages/{name}-*/done.json")]
            for name in ("shard", "encode")
        )
        assert bool(whole) == (task.kind == CELL)
        numbers = Counter(shard["specification"]["of"] for shard in shards)
        counts = {shard["specification"]["shards"] for shard in shards}
        if task.kind == ENCODE:  # of the trained and of the untrained encoder
            assert sorted(numbers.values()) == 2 * [*counts] and min(counts) > 1
        else:
            assert not shards
    (record,) = read_attempts(tasks[-1].folder)
    assert record["outcome"] == "finished"
    assert list(results(tmp_path)) == [tasks[-1].name]


def test_a_system_that_is_not_linux_is_described_too(monkeypatch: pytest.MonkeyPatch) -> None:
    known, exists = work.environment(), Path.exists
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(Path, "exists", lambda path: "proc" not in path.parts and exists(path))
    less = {"processor": platform.processor(), "cores": os.cpu_count()}
    assert work.environment() == known | less
