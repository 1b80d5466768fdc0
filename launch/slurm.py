"""SLURM: the cells of a command as job arrays, each with its own resources, submitted once.

Order of things: everything that SLURM could refuse is tried with `sbatch --test-only`, then shared
stages are submitted, then what depends on them, the cells last. Every submission is written down
before and after it is made, see status.py.
"""

import re
import subprocess
import time
import uuid
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import _make_sbatch_string

from launch import queue, status
from launch.job import DEAF_PYTHON, Job
from launch.queue import SlurmError
from launch.requests import OUT_OF_MEMORY, Request, request
from launch.status import SUBMISSION, Standing, Status, Submission, job_log, job_of, read_submission
from lion_sweep.cell.tasks import KINDS, Task, read_attempts
from lion_sweep.config.site import Retry
from lion_sweep.stages.engine import locked

NAME = "slurm"
SUBMIT_TRIES = 5
ALL_AT_ONCE = 1000
NO_NODE = "Requested node configuration is not available"
LONGEST_COMMENT = 1000  # of 1,023 letters that SLURM takes

# The command given again submits these tasks again, whose failures are none of their own.
LOST = "lost"
BLAMELESS = (LOST, status.INTERRUPTED)
# What slurmstepd prints where it, or the kernel's cgroup, kills for lack of memory.
MEMORY_WORDS = re.compile(r"memory limit|oom[-_ ]kill|out of memory", re.IGNORECASE)
LOG_TAIL_BYTES = 4096


def survey(tasks: list[Task]) -> list[Status]:
    """Where the tasks are. Raises `SlurmError` where SLURM does not say."""
    jobs = [job_of(task.folder, NAME) for task in tasks]
    # Of finished tasks nobody need be asked, so that outputs can be looked at anywhere.
    left = {job for task, job in zip(tasks, jobs, strict=True) if job and not task.complete}
    found = queue.job_states(left)
    statuses: dict[str, Status] = {}
    for task, job in zip(tasks, jobs, strict=True):
        told = found.get(job)
        if told and told.state == status.FAILED and not told.failure and _outgrew(task, job):
            told = Standing(told.state, told.reason, OUT_OF_MEMORY)
        if told is None and job and not task.complete:
            told = Standing(status.FAILED, f"SLURM has forgotten job {job}", LOST)
        if told and told.state == status.CANCELLED:
            needs = [statuses[need] for need in task.needs if need in statuses]
            failed = [need.task.label for need in needs if need.state == status.FAILED]
            if failed:
                told = Standing(status.BLOCKED, f"{', '.join(failed)} failed")
        statuses[task.name] = status.status_of(task, job, told)
    return list(statuses.values())


def _outgrew(task: Task, job: str) -> bool:
    """Whether SLURM's daemons have left a word in the log that memory was why."""
    path = job_log(task.root, job)
    if not path.is_file():
        return False
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        return bool(MEMORY_WORDS.search(log.read().decode(errors="replace")))


def launch(tasks: list[Task]) -> int:
    """Submit what is left to do, or follow what is there to its end; returns the exit status."""
    root, retry = tasks[0].root, tasks[0].config.site.retry
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / ".launch.lock"):
        _withdraw_lost(tasks)
        before = {found.task.name: found for found in survey(tasks)}
        wanted = [task for task in tasks if wants(before[task.name], retry)]
        if wanted:
            _submit(wanted, before)
        _name_unheard(tasks, before)
    if not wanted:
        return status.follow(lambda: survey(tasks))
    print(status.as_table(survey(tasks)))
    print(
        "\nsubmitted; this shell may go. python -m lion_sweep.status shows where the cells "
        "are; this command given again follows them."
    )
    left = [found for found in before.values() if found.task not in wanted]
    failed = any(found.state in (status.FAILED, status.BLOCKED) for found in left)
    return status.SOME_FAILED if failed else status.ALL_FINISHED


def _name_unheard(tasks: list[Task], before: dict[str, Status]) -> None:
    """Say which jobs were submitted with other resources than the command asks for now."""
    for task in tasks:
        record, found = read_submission(task.folder), before[task.name]
        if found.state not in (status.QUEUED, status.RUNNING) or not record or not record.request:
            continue
        asked, had = asdict(request(task, _failures(found))), record.request
        other = [key for key in asked if key in had and asked[key] != had[key]]
        if other:
            now = ", ".join(f"{key}={asked[key]} (submitted: {had[key]})" for key in other)
            print(
                f"{task.label} is {found.state} as it was submitted, {now} is not heard: cancel it "
                f"(python -m lion_sweep.cancel {task.name}), and give the command again."
            )


def wants(found: Status, retry: Retry) -> bool:
    """Whether a command given again submits the task once more."""
    if found.state in (status.NEW, status.CANCELLED):
        return True
    failed = found.state in (status.FAILED, status.BLOCKED)
    blameless = found.failure is not None and found.failure["class"] in BLAMELESS
    return failed and (blameless or retry is Retry.failed)


def _withdraw_lost(tasks: list[Task]) -> None:
    """Cancel jobs of a launcher that died before it could write down their ids."""
    lost: dict[str, list[Path]] = defaultdict(list)  # their tasks' folders, by token
    for task in tasks:
        record = read_submission(task.folder)
        if record and record.launcher == NAME and not record.job:
            lost[record.token].append(task.folder)
    for token, folders in lost.items():
        queue.cancel(queue.jobs_with(token))
        while queue.jobs_with(token):
            time.sleep(0.5)
        for folder in folders:
            (folder / SUBMISSION).unlink()


def _submit(wanted: list[Task], before: dict[str, Status]) -> None:
    requests = {task.name: request(task, _failures(before[task.name])) for task in wanted}
    for asked in dict.fromkeys(requests.values()):
        rehearse(asked, next(task for task in wanted if requests[task.name] == asked))
    for task in wanted:
        task.freeze()
    largest = queue.array_size()
    for kind in KINDS:
        arrays: dict[tuple[Request, tuple[str, ...]], list[Task]] = defaultdict(list)
        for task in wanted:
            if task.kind == kind and not task.complete:
                arrays[requests[task.name], _jobs_before(task)].append(task)
        for (asked, needed), alike in arrays.items():
            for start in range(0, len(alike), largest):
                _submit_array(alike[start : start + largest], asked, needed)


def _submit_array(tasks: list[Task], asked: Request, needed: tuple[str, ...]) -> None:
    config, labels = tasks[0].config, [task.label for task in tasks]
    token = uuid.uuid4().hex[:12]
    for task in tasks:
        Submission(token, NAME).write(task.folder)
    parameters = asked.parameters(config) | {
        "name": labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more",
        "array_parallelism": config.site.parallel or ALL_AT_ONCE,
        "comment": ",".join([token, *labels])[:LONGEST_COMMENT],  # by whose token it is found
        "dependency": "afterok:" + ":".join(needed) if needed else None,
    }
    executor = _executor(tasks[0].root, parameters)
    for attempt in range(SUBMIT_TRIES):
        jobs: list[submitit.Job[None]] = []
        try:
            with executor.batch():
                jobs = [executor.submit(Job(task.folder.absolute(), token)) for task in tasks]
            break
        except FailedJobError as error:
            # It may have been accepted although sbatch could not say so.
            queue.cancel(queue.jobs_with(token))
            if attempt + 1 == SUBMIT_TRIES:
                raise SlurmError(
                    f"sbatch refused {parameters['name']}: {error}\nWhat was submitted before "
                    "stays; give the command again to submit the rest."
                ) from None
            time.sleep(2**attempt)
    for task, job in zip(tasks, jobs, strict=True):
        record = Submission(token, NAME, job.job_id, time.time(), asdict(asked))
        record.write(task.folder)


def _jobs_before(task: Task) -> tuple[str, ...]:
    """Jobs that have to end well before the task's may start."""
    needs = [Task("shared", name, task.config) for name in task.needs]
    jobs = [job_of(need.folder, NAME) for need in needs if not need.complete]
    return tuple(filter(None, jobs))


def _failures(before: Status) -> list[str]:
    """How the task failed until now, counting what only SLURM could tell."""
    records = read_attempts(before.task.folder)
    recorded = [record["failure"]["class"] for record in records if record.get("failure")]
    last = before.failure["class"] if before.failure else None
    return recorded if last is None or last in recorded else [*recorded, last]


def _executor(root: Path, parameters: dict[str, object]) -> submitit.SlurmExecutor:
    executor = submitit.SlurmExecutor(folder=root / "jobs" / "%j", python=DEAF_PYTHON)
    given = {key: value for key, value in parameters.items() if value is not None}
    executor.update_parameters(job_name=given.pop("name"), **given)
    executor.parameters.setdefault("time", None)
    return executor


def rehearse(asked: Request, task: Task) -> None:
    """Ask SLURM whether it would run such a job. Raises `SlurmError` with what to change.

    While all nodes are drained or down it has none for any job, and takes jobs all the same.
    """
    partition, hours = asked.partition, asked.time_limit
    row = queue.partition_of(partition)
    usual, longest = queue.limits(row)
    if longest is not None and hours is not None and hours > longest:
        raise SlurmError(
            f"{task.label} asks for {hours:g} h, but {partition or 'the default'} partition grants "
            f"{longest:g} h: lower site.time_limit (a cell that reaches it goes on in the next "
            "attempt), or choose another site.slurm.partition."
        )
    parameters = {k: v for k, v in asked.parameters(task.config).items() if v is not None}
    script = _make_sbatch_string(command="true", folder=task.root, **{"time": None, **parameters})
    done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    no_node = NO_NODE in done.stderr
    if done.returncode and (not no_node or queue.in_service(row)):
        limits = f"{usual:g} h, as none is asked for" if usual else "no time limit"
        there = ", ".join(sorted(queue.partitions()))
        limit = limits if hours is None else f"{hours:g} h"
        raise SlurmError(
            f"SLURM would not take {task.label} ({asked.nodes} node{'s'[: asked.nodes > 1]}, "
            f"{asked.gpus} GPUs, {asked.cpus} CPUs, {asked.memory:g} GiB, {limit}, "
            f"{partition or 'the default partition'}). It says: {' '.join(done.stderr.split())}\n"
            f"Change site.slurm.partition (there are {there}), account, qos, constraint or sbatch, "
            "or what the cell asks for: site.gpus, cpus, memory, time_limit, or resources."
        )
