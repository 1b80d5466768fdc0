"""Doing a task in this process: what every launcher comes down to, on a laptop or in a job."""

import traceback
from dataclasses import replace

import torch

from lion_sweep.cell.attempts import WHEREABOUTS, Attempt
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import ADAPT, CELL, ENCODE, TEACHER, TRAIN, Task
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.site import world_size
from lion_sweep.stages import engine
from lion_sweep.stages.base import Stage
from lion_sweep.stages.engine import Team
from lion_sweep.stages.of_cell import stages_of
from lion_sweep.stages.workshop import Workshop


def machine() -> SiteName:
    """What this process computes on."""
    return SiteName.gpu if torch.cuda.is_available() else SiteName.laptop


def do(task: Task, site: SiteName, job: str = "", team: Team | None = None) -> Progress:
    """Do what of the task is left to do; returns its progress, which can still say something.

    An attempt is recorded from the first to the last moment, whatever happens. A job (`job` is the
    scheduler's name for it) takes over from earlier attempts, which the scheduler has given up; a
    command waits for another one that does the same. Raises what ended it: `Interrupted` and
    `Superseded` are no failures.
    """
    # A stage may be given fewer devices than its cell: those that are here are what counts.
    team, how = team or Team(), replace(Execution.of(task.config, site), devices=world_size())
    if not team.leads:
        _do(task, Workshop(task.root, Progress(task.label, None), how, team=team))
        return Progress(task.label, None)
    attempt = Attempt.begin(task.folder, job, task.config.site.attempts)
    log = task.folder / "log.txt"
    progress = Progress(task.label, log, task.folder / WHEREABOUTS)
    try:
        if job:
            engine.fence_off(task.root, task.name)
        _do(task, Workshop(task.root, progress, how, owner=task.name, team=team))
    except BaseException as error:
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        attempt.end(error)
        raise
    attempt.end(None)
    return progress


def _do(task: Task, shop: Workshop) -> None:
    from lion_sweep.cell import run  # here, as it imports the models, which takes seconds

    stages = stages_of(task.config, shop)
    cell = Cell(task.config, stages)
    todo: dict[str, Stage | None] = {
        ADAPT: stages.adapt,
        TEACHER: stages.teacher,
        TRAIN: stages.train,
    }
    if task.kind == ENCODE:
        todo[ENCODE] = stages.encoding_jobs(task.config.site.encode_jobs)[task.number - 1]
    stage = todo.get(task.kind)
    found = cell.id if task.kind == CELL else stage and stage.name
    if found != task.name:
        raise UserError(
            f"{task.name} was asked for with other files, or another version of lion_sweep, than "
            "are there now: give the command again, which makes a new cell of them."
        )
    if task.kind == TRAIN:
        run.train(cell, shop)
    elif stage:
        shop.run(stage)
    else:
        result = run.run(cell, shop)
        if shop.team.leads:
            cell.write_result(result)
