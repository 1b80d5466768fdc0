"""Doing a task in this process: what every launcher comes down to, on a laptop or in a job."""

import traceback

import torch

from lion_sweep import prepare, stage
from lion_sweep.attempts import WHEREABOUTS, Attempt
from lion_sweep.cell import Cell
from lion_sweep.config_site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.prepare import Workshop
from lion_sweep.progress import Progress
from lion_sweep.stage import Alone, Team
from lion_sweep.tasks import ADAPT, CELL, ENCODE, TEACHER, TRAIN, Task, encoding_name


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
    team = team or Alone()
    if not team.leads:
        _do(task, site, Workshop(task.config, Progress(task.label, None), team=team))
        return Progress(task.label, None)
    attempt = Attempt.begin(task.folder, job, task.config.site.attempts)
    log = task.folder / "log.txt"
    progress = Progress(task.label, log, task.folder / WHEREABOUTS)
    try:
        if job:
            stage.fence_off(task.root, task.name)
        _do(task, site, Workshop(task.config, progress, task.name, team))
    except BaseException as error:
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        attempt.end(error)
        raise
    attempt.end(None)
    return progress


def _do(task: Task, site: SiteName, workshop: Workshop) -> None:
    from lion_sweep import cell_run, pipeline  # here, as it imports the models, which takes seconds

    texts = prepare.collection(workshop)
    if task.kind == TEACHER:
        prepare.taught_groups(workshop, texts)
    elif task.kind == ADAPT:
        pipeline.Pipeline(task.config, site, workshop, texts).adapt()
    elif task.kind == TRAIN:
        cell_run.train(_cell(task, workshop), site, workshop, texts)
    elif task.kind == ENCODE:
        cell_run.encode(_cell(task, workshop), task.number, site, workshop, texts)
    else:
        cell = _cell(task, workshop)
        result = cell_run.run(cell, site, workshop, texts)
        if workshop.team.leads:
            cell.write_result(result)


def _cell(task: Task, workshop: Workshop) -> Cell:
    """The cell of a task, whose collections must not have changed meanwhile."""
    cell = Cell(task.config, prepare.contents(workshop))
    names = {CELL: cell.id, ENCODE: encoding_name(cell, task.number)}
    if names.get(task.kind, task.name) != task.name:
        raise UserError(
            f"{task.name} was submitted for another content of {', '.join(cell.contents)} than is "
            "there now: give the command again, which makes a new cell of it."
        )
    return cell
