"""Several cells at once on one machine, each in a process of its own, through submitit."""

import os
import time
import uuid

import psutil
import submitit

from launch import status
from launch.job import Job
from launch.status import Standing, Status, Submission, job_of
from lion_sweep.cell.tasks import Task
from lion_sweep.stages.engine import locked

NAME = "local"
POLL_SECONDS = 0.5
NO_LIMIT_MINUTES = 60 * 24 * 365
DEAD = Standing(status.FAILED, "its process has died", "killed")


def survey(tasks: list[Task]) -> list[Status]:
    """Where the tasks are: running where their process lives."""
    statuses = []
    for task in tasks:
        job, told = job_of(task.folder, NAME), None
        if job and not task.complete:
            told = Standing(status.RUNNING) if _process(job) else DEAD
        statuses.append(status.status_of(task, job, told))
    return statuses


def _process(job: str) -> psutil.Process | None:
    """The job's process where it lives; its number may be somebody else's by now."""
    try:
        process = psutil.Process(int(job))
        return process if "submitit" in " ".join(process.cmdline()) else None
    except psutil.Error:
        return None


def launch(tasks: list[Task]) -> int:
    """Keep `site.parallel` processes busy until every task has ended; returns the exit status."""
    parallel = tasks[0].config.site.parallel or 1
    with locked(tasks[0].root / ".launch.lock"):
        while any(found.state == status.RUNNING for found in survey(tasks)):
            time.sleep(POLL_SECONDS)  # of a launcher that was killed, and left its processes
        waiting = [task for task in tasks if not task.complete]
        for task in waiting:
            task.freeze()
        running: dict[int, tuple[Task, submitit.Job[None]]] = {}
        failed: set[str] = set()
        while waiting or running:
            for slot, (task, job) in list(running.items()):
                if not job.done():
                    continue
                del running[slot]
                (found,) = survey([task])
                print(f"{task.label}: {found.state} {found.score}".rstrip(), flush=True)
                if found.state != status.FINISHED:
                    failed.add(task.name)
            to_come = {task.name for task in (*waiting, *(task for task, _ in running.values()))}
            for task in list(waiting):
                if failed & set(task.needs):
                    waiting.remove(task)
                    failed.add(task.name)
                elif len(running) < parallel and not to_come & set(task.needs):
                    waiting.remove(task)
                    slot = min(set(range(parallel)) - set(running))
                    running[slot] = task, _start(task, slot)
            time.sleep(POLL_SECONDS)
    statuses = survey(tasks)
    print(status.as_table(statuses))
    return status.exit_status(statuses)


def _start(task: Task, slot: int) -> "submitit.Job[None]":
    import torch  # here, as `survey` needs none of it

    gpus, cores = torch.cuda.device_count(), os.cpu_count() or 1
    executor = submitit.LocalExecutor(folder=task.root / "jobs" / "%j")
    executor.update_parameters(
        timeout_min=NO_LIMIT_MINUTES,
        gpus_per_node=1 if gpus else 0,
        visible_gpus=[slot % gpus] if gpus else [],
        stderr_to_stdout=True,
        setup=[f"export OMP_NUM_THREADS={max(1, cores // (task.config.site.parallel or 1))}"],
    )
    token = uuid.uuid4().hex[:12]
    Submission(token, NAME).write(task.folder)
    job = executor.submit(Job(task.folder.absolute(), token))
    Submission(token, NAME, job.job_id, time.time()).write(task.folder)
    return job


def cancel(job: str) -> None:
    """End a process of this machine and what it has started."""
    if process := _process(job):
        for child in process.children(recursive=True):
            child.terminate()
        process.terminate()
