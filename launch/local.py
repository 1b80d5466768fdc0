"""Several cells at once on one machine, each in a process of its own, through submitit."""

import os
import time
import uuid

import psutil
import submitit

from launch import status
from launch.job import Job
from launch.records import Submission, read_submission
from launch.status import Standing, Status
from lion_sweep.cell.tasks import Task
from lion_sweep.config.site import Site
from lion_sweep.stages.engine import locked

NAME = "local"
POLL_SECONDS = 0.5
NO_LIMIT_MINUTES = 60 * 24 * 365
DEAD = Standing(status.FAILED, "its process has died", "killed")


def survey(tasks: list[Task]) -> list[Status]:
    """Where the tasks are: running where their process lives."""
    statuses = []
    for task in tasks:
        record = read_submission(task.folder)
        job = record.job if record and record.launcher == NAME else None
        told = None
        if job and not task.complete:
            told = Standing(status.RUNNING) if _process(job) else DEAD
        statuses.append(status.status_of(task, job or "", told))
    return statuses


def _process(job: str) -> psutil.Process | None:
    """The job's process where it lives; its number may be somebody else's by now."""
    try:
        process = psutil.Process(int(job))
        return process if "submitit" in " ".join(process.cmdline()) else None
    except psutil.Error:
        return None


class LocalLauncher:
    """Keeps `site.parallel` processes busy until every task has ended."""

    def __init__(self, site: Site) -> None:
        import torch  # here, as `survey` needs none of it

        self.parallel = site.parallel or 1
        self.gpus = torch.cuda.device_count()

    def __call__(self, tasks: list[Task]) -> int:
        """The exit status: 0 all finished, 4 some failed."""
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
                left = [*waiting, *(task for task, _ in running.values())]
                to_come = {task.name for task in left}
                for task in list(waiting):
                    if failed & set(task.needs):
                        waiting.remove(task)
                        failed.add(task.name)
                    elif len(running) < self.parallel and not to_come & set(task.needs):
                        waiting.remove(task)
                        slot = min(set(range(self.parallel)) - set(running))
                        running[slot] = task, self._start(task, slot)
                time.sleep(POLL_SECONDS)
        statuses = survey(tasks)
        print(status.as_table(statuses))
        return status.exit_status(statuses)

    def _start(self, task: Task, slot: int) -> "submitit.Job[None]":
        executor = submitit.LocalExecutor(folder=task.root / "jobs" / "%j")
        cores = max(1, (os.cpu_count() or 1) // self.parallel)
        executor.update_parameters(
            timeout_min=NO_LIMIT_MINUTES,
            gpus_per_node=1 if self.gpus else 0,
            visible_gpus=[slot % self.gpus] if self.gpus else [],
            stderr_to_stdout=True,
            setup=[f"export OMP_NUM_THREADS={cores}"],
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
