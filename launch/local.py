"""The cells of a command on one machine, several at once, each in processes of its own.

Every job is a `launch.ranks`, which outlives the command; what a command needs to know of those
that another one has left stands in the records of their submission.
"""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil

from launch import status
from launch.places import Gpus, Places
from launch.requests import request
from launch.status import SUBMISSION, Standing, Status, Submission, job_of, read_submission
from lion_sweep.cell.tasks import Task, read_attempts, this_node
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.machine import screen
from lion_sweep.stages.engine import locked

NAME = "local"
POLL_SECONDS, WATCH_SECONDS = 0.5, 2.0
DEAD = Standing(status.FAILED, "its process has died", "killed")


def survey(tasks: list[Task]) -> list[Status]:
    """Where the tasks are: running where their process lives."""
    statuses = []
    for task in tasks:
        job, told = job_of(task.folder, NAME), None
        if job and not task.complete:
            told = Standing(status.RUNNING) if _process(job) else DEAD
        elif not job and not task.complete and is_at_itself(task):
            told = Standing(status.RUNNING)
        statuses.append(status.status_of(task, job, told))
    return statuses


def is_at_itself(task: Task) -> bool:
    """Whether a command of this machine does the task, in no job, at this moment."""
    last = read_attempts(task.folder)[-1:]
    if not last or last[0].get("outcome") != "running" or last[0]["job"]:
        return False
    try:  # the number may be of a later process by now
        begun = psutil.Process(last[0]["pid"]).create_time()
    except psutil.Error:
        return False
    return last[0]["node"] == this_node() and begun <= last[0]["started"]


def _process(job: str) -> psutil.Process | None:
    """The job's process where it lives; its number may be somebody else's by now."""
    try:
        process = psutil.Process(int(job))
        return process if "launch.ranks" in process.cmdline() else None
    except psutil.Error:
        return None


def launch(tasks: list[Task]) -> int:
    """Keep the machine busy until every task has ended; returns the exit status.

    Raises `UserError` where a task would need more GPUs than there are.
    """
    root, places = tasks[0].root, _places(tasks)
    root.mkdir(parents=True, exist_ok=True)
    watch, looked = status.Watch(lambda: survey(tasks)), -WATCH_SECONDS
    with locked(root / ".launch.lock"), screen.shown(watch.drawn):
        # A launcher that was killed has left its jobs, perhaps of other tasks.
        running, of_folder = _running(root), {task.folder: task for task in tasks}
        waiting, failed = {task.name: task for task in tasks if not task.complete}, set[str]()
        for task in waiting.values():
            task.freeze()
        while waiting or running.keys() & of_folder.keys():
            for folder in [f for f, record in running.items() if not _process(record.job or "")]:
                del running[folder]
                if folder in of_folder:
                    _note_end(of_folder[folder], waiting, failed)
            to_come = {task.name for folder, task in of_folder.items() if folder in running}
            to_come |= waiting.keys()
            needs = {}
            for name, task in list(waiting.items()):
                if failed & set(task.needs):
                    failed.add(waiting.pop(name).name)
                elif task.folder not in running and not to_come & set(task.needs):
                    needs[name] = request(task, []).devices
            taken = [_gpus_of(record) for record in running.values()]
            for name, gpus in places.give(needs, taken).items():
                task = waiting.pop(name)
                running[task.folder] = _start(task, needs[name], gpus, places)
            if screen.active() and time.monotonic() - looked > WATCH_SECONDS:
                watch.look()
                looked = time.monotonic()
            time.sleep(POLL_SECONDS)
    statuses = survey(tasks)
    print(status.as_table(statuses))
    return status.exit_status(statuses)


def _note_end(task: Task, waiting: dict[str, Task], failed: set[str]) -> None:
    (found,) = survey([task])
    print(f"{task.label}: {found.state} {found.score}".rstrip(), flush=True)
    if found.state == status.FINISHED:
        waiting.pop(task.name, None)
    elif task.name not in waiting:  # as it is where another command had begun it
        failed.add(task.name)


def _places(tasks: list[Task]) -> Places:
    """Of this machine. Raises `UserError` where it has too few GPUs for one of the tasks."""
    from lion_sweep.machine.site import gpus  # here, as it needs torch, and `survey` does not

    site = tasks[0].config.site
    found = () if site.name is SiteName.laptop else tuple(gpus())
    for task in tasks:
        devices = request(task, []).devices
        if found and devices > len(found):
            raise UserError(
                f"{task.label} needs {devices} GPUs, and {len(found)} are there: lower "
                f"site.devices, or site.stages.{task.kind}.devices."
            )
    return Places(found, site.parallel or len(found) or 1)


def _running(root: Path) -> dict[Path, Submission]:
    """The jobs of this machine below `root` that live, by their tasks' folders."""
    folders = [path.parent for path in root.glob(f"*/*/{SUBMISSION}")]
    records = ((folder, read_submission(folder)) for folder in folders)
    return {f: r for f, r in records if r and r.launcher == NAME and r.job and _process(r.job)}


def _gpus_of(record: Submission) -> Gpus:
    return tuple((record.request or {}).get("gpus", ()))


def _start(task: Task, devices: int, gpus: Gpus, places: Places) -> Submission:
    ranks = min(places.most * devices, len(places.gpus) or places.most * devices)  # at once
    threads = str(max(1, (os.cpu_count() or 1) // ranks))
    token = uuid.uuid4().hex[:12]
    Submission(token, NAME).write(task.folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "launch.ranks", str(task.folder.absolute()), token, str(devices)],
        env=os.environ | {"OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ",".join(gpus)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    asked = {"devices": devices, "gpus": gpus}
    record = Submission(token, NAME, str(process.pid), time.time(), asked)
    record.write(task.folder)
    return record


def cancel(job: str) -> None:
    """End a job of this machine, which passes it on to its ranks."""
    if process := _process(job):
        process.terminate()
