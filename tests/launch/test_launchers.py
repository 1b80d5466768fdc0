"""What launchers start, in which order, and what they write down of it; nothing is started here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from submitit.core.utils import FailedJobError

from launch import slurm, status
from launch.job import Job
from launch.queue import SlurmError, standing
from launch.status import Submission, read_submission
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import Attempt, Task, tasks_of
from lion_sweep.config import Config
from lion_sweep.files import write_json
from lion_sweep.stages import engine

Compose = Callable[..., Config]
WORDS = ["site=slurm", "site.encode_jobs=2", "site.parallel=3", "paradigm=dense"]


@pytest.fixture
def tasks(small_cell: Callable[..., Cell], tmp_path: Path) -> list[Task]:
    """Of two cells with training and encoding jobs of their own, and a shared adaptation."""
    words = [*WORDS, f"paths.root={tmp_path}"]
    return tasks_of([small_cell(*words, f"loss={loss}") for loss in ("cl", "kd")])


class Scheduler:
    """Takes arrays as sbatch does, and remembers them: parameters, and tasks by job."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrays: list[tuple[dict[str, Any], dict[str, Job]]] = []
        self.states: dict[str, status.Standing] = {}
        self.rehearsed, self.cancelled, self.refusals, self.largest = 0, [], 0, 1001
        monkeypatch.setattr(slurm, "_executor", lambda root, parameters: self.executor(parameters))
        monkeypatch.setattr(slurm, "rehearse", self.rehearse)
        monkeypatch.setattr(slurm.time, "sleep", lambda _: None)
        monkeypatch.setattr(slurm.queue, "job_states", lambda jobs: self.states)
        monkeypatch.setattr(slurm.queue, "jobs_with", lambda token: [])
        monkeypatch.setattr(slurm.queue, "cancel", self.cancelled.append)
        monkeypatch.setattr(slurm.queue, "array_size", lambda: self.largest)
        monkeypatch.setattr(slurm.status, "follow", lambda survey: 77)

    def rehearse(self, *_: object) -> None:
        self.rehearsed += 1

    def executor(self, parameters: dict[str, Any]) -> Any:
        """Of one array."""
        jobs: dict[str, Job] = {}

        @contextmanager
        def batch() -> Iterator[None]:
            yield
            if self.refusals:
                self.refusals -= 1
                jobs.clear()
                raise FailedJobError("socket timed out")
            self.arrays.append((parameters, dict(jobs)))

        def submit(job: Job) -> SimpleNamespace:
            name = f"{len(self.arrays)}_{len(jobs)}"
            jobs[name] = job
            return SimpleNamespace(job_id=name)

        return SimpleNamespace(batch=batch, submit=submit)


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    """In place of SLURM."""
    return Scheduler(monkeypatch)


def finish(task: Task) -> None:
    """As if its stage were done."""
    folder = task.root / "stages" / task.name
    folder.mkdir(parents=True)
    (folder / engine.DONE).touch()


def test_every_task_is_submitted_once_after_what_it_needs(
    scheduler: Scheduler, tasks: list[Task]
) -> None:
    finish(tasks[0])  # the adaptation
    assert tasks[0].label == "adapt 1b"
    assert slurm.launch(tasks) == 0
    job_of: dict[str, str] = {}
    by_folder = {task.folder: task for task in tasks}
    for parameters, jobs in scheduler.arrays:
        labels = []
        for name, job in jobs.items():
            task = by_folder[job.folder]
            labels.append(task.label)
            assert task.name not in job_of
            job_of[task.name] = name
            record = read_submission(task.folder)
            assert record is not None
            assert (record.token, record.launcher, record.job) == (job.token, "slurm", name)
            assert parameters["comment"].startswith(f"{job.token},")
            assert record.request is not None and record.request["memory"] == 4
            needed = [job_of[need] for need in task.needs if need != tasks[0].name]
            after = "afterok:" + ":".join(needed) if needed else None
            assert parameters["dependency"] == after
            assert Task.thaw(job.folder) == task
        assert parameters["comment"].split(",")[1:] == labels
        more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        assert parameters["name"] == labels[0] + more
        assert parameters["array_parallelism"] == 3
    assert set(job_of) == {task.name for task in tasks[1:]}
    # Both encoding jobs of a cell are one array.
    assert sorted(len(jobs) for _, jobs in scheduler.arrays) == [1, 1, 1, 1, 1, 2, 2]
    assert scheduler.rehearsed == 1  # they all ask for the same

    scheduler.states = {job: standing("PENDING") for job in job_of.values()}
    assert slurm.launch(tasks) == 77  # all are there: it follows
    assert len(scheduler.arrays) == 7


@pytest.mark.parametrize(("largest", "parts"), [(2, [2, 2, 1]), (5, [5]), (4, [4, 1])])
def test_no_array_has_more_elements_than_slurm_takes(
    scheduler: Scheduler,
    small_cell: Callable[..., Cell],
    tmp_path: Path,
    largest: int,
    parts: list[int],
) -> None:
    words = ["site=slurm", "paradigm=dense", f"paths.root={tmp_path}"]
    tasks = tasks_of([small_cell(*words, f"recipe.learning_rate={n}e-5") for n in range(1, 6)])
    finish(tasks[0])
    scheduler.largest = largest
    assert slurm.launch(tasks) == 0
    assert [len(jobs) for _, jobs in scheduler.arrays] == parts
    submitted = [job.folder for _, jobs in scheduler.arrays for job in jobs.values()]
    assert submitted == [task.folder for task in tasks[1:]]
    tokens = [parameters["comment"].split(",")[0] for parameters, _ in scheduler.arrays]
    assert len(set(tokens)) == len(parts)


def test_what_sbatch_is_told_has_the_length_that_it_takes(
    scheduler: Scheduler, small_cell: Callable[..., Cell], tmp_path: Path
) -> None:
    [cell] = [small_cell("site=slurm", "paradigm=dense", f"paths.root={tmp_path}")]
    adapt, task = tasks_of([cell])
    finish(adapt)
    many = [replace(task, name=f"{task.name}{n}") for n in range(200)]
    assert slurm.launch(many) == 0
    [(parameters, jobs)] = scheduler.arrays
    assert len(jobs) == 200 and parameters["name"] == "1b-dense-cl and 199 more"
    (token,) = {job.token for job in jobs.values()}
    assert parameters["comment"].startswith(f"{token},1b-dense-cl,1b-dense-cl,")
    assert len(parameters["comment"]) == 1000


@pytest.mark.parametrize("retry", ["none", "failed"])
def test_what_a_command_given_again_submits(
    scheduler: Scheduler, compose_cell: Compose, tmp_path: Path, retry: str
) -> None:
    config = compose_cell("site=slurm", f"site.retry={retry}", f"paths.root={tmp_path}")
    states = {
        "queued": "PENDING",
        "running": "RUNNING",
        "cancelled": "CANCELLED",
        "late": "TIMEOUT",
        "large": "OUT_OF_MEMORY",
        "broken": "FAILED",
        "lost": None,
        "new": None,
        "done": "COMPLETED",
    }
    tasks = {name: Task("cell", name, config) for name in states}
    for number, (name, state) in enumerate(states.items()):
        tasks[name].freeze()
        if name != "new":
            Submission("token", "slurm", f"9_{number}").write(tasks[name].folder)
        if state:
            scheduler.states[f"9_{number}"] = standing(state)
    write_json(tasks["done"].folder / "result.json", {})
    Attempt.begin(tasks["broken"].folder, "9_5", 9).end(MemoryError())
    Attempt.begin(tasks["large"].folder, "9_4", 9).end(MemoryError())
    assert slurm.launch([*tasks.values()]) == (4 if retry == "none" else 0)  # failed and left alone
    asked = {
        job.folder.name: parameters
        for parameters, jobs in scheduler.arrays
        for job in jobs.values()
    }
    expected = {"cancelled", "lost", "new"}
    expected |= {"late", "large", "broken"} if retry == "failed" else set()
    assert set(asked) == expected
    assert not scheduler.cancelled
    usual = asked["new"]["mem"]
    assert asked["lost"]["mem"] == asked["cancelled"]["mem"] == usual == "4096M"
    if retry == "failed":  # more memory for whom it was too little, counted once
        assert asked["large"]["mem"] == asked["broken"]["mem"] == "6144M"
        assert asked["late"]["mem"] == usual


def test_what_a_queued_job_does_not_hear_of_is_said(
    scheduler: Scheduler,
    compose_cell: Compose,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["site=slurm", "site.time_limit=1", f"paths.root={tmp_path}"]
    first = Task("cell", "a", compose_cell(*words))
    assert slurm.launch([first]) == 0
    scheduler.states = {"0_0": standing("PENDING")}
    assert slurm.launch([first]) == 77
    assert "is not heard" not in capsys.readouterr().out
    more = ["site.time_limit=2", "site.memory=9", "site.slurm.partition=long"]
    assert slurm.launch([Task("cell", "a", compose_cell(*words, *more))]) == 77
    said = capsys.readouterr().out
    for other in (
        "time_limit=2.0 (submitted: 1.0)",
        "memory=9.0",
        "partition=long (submitted: None)",
    ):
        assert other in said
    assert "python -m lion_sweep.cancel a" in said


def test_sbatch_that_fails_is_asked_again_and_what_it_took_withdrawn(
    scheduler: Scheduler, tasks: list[Task]
) -> None:
    scheduler.refusals = slurm.SUBMIT_TRIES - 1
    assert slurm.launch(tasks[:1]) == 0
    assert len(scheduler.arrays) == 1
    assert len(scheduler.cancelled) == slurm.SUBMIT_TRIES - 1
    scheduler.refusals = slurm.SUBMIT_TRIES
    with pytest.raises(SlurmError, match=r"sbatch refused teacher bm25: socket timed out"):
        slurm.launch([task for task in tasks if task.kind == "teacher"])
    assert scheduler.refusals == 0


def test_a_submission_that_was_cut_off_is_withdrawn_and_made_again(
    scheduler: Scheduler, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    Submission("cut", "slurm").write(make_folder(tasks[0]))
    left = [["5"], ["5"], []]
    asked: list[str] = []
    monkeypatch.setattr(slurm.queue, "jobs_with", lambda name: asked.append(name) or left.pop(0))
    assert slurm.launch(tasks[:1]) == 0
    assert set(asked) == {"cut"} and left == []  # it waited until they were gone
    assert scheduler.cancelled == [["5"]]
    record = read_submission(tasks[0].folder)
    assert record is not None and record.job == "0_0"


def make_folder(task: Task) -> Path:
    """The task's folder."""
    task.folder.mkdir(parents=True)
    return task.folder
