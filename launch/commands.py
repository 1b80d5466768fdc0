"""The commands beside the grid: status, cancel, logs.

All take the grid's overrides, of which paths.root says whose cells are meant.
"""

import json
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from launch import local, queue, slurm, status
from launch.status import Status, job_log, job_of, read_submission
from lion_sweep import command
from lion_sweep.cell.tasks import CELL, ENCODE, TASK, TRAIN, Task, all_tasks, full_names
from lion_sweep.config.schema import Config, StatusFormat
from lion_sweep.errors import UserError
from lion_sweep.machine import screen

CLEAR = "\x1b[H\x1b[2J"
WATCH_SECONDS = 5


ABOUT = {
    "status": "Where every cell of a folder of outputs is: queued, running, finished, failed.",
    "cancel": "Stop cells that are queued or running; given again, the grid goes on with them.",
    "logs": "What cells and their jobs have printed.",
}
NAMES = """
A cell is named as in 8b-sparse-cl, or by its id or the start of it; 'python -m lion_sweep.status'
shows them, and what tells cells of one name apart. '8b-*' names several at once."""


def run(name: str) -> NoReturn:
    """Run `status`, `cancel` or `logs` on the words of the command line."""

    def main(words: list[str]) -> int:
        parser = command.parser(name, f"{ABOUT[name]}\n{NAMES}")
        parser.add_argument("cells", nargs="*", metavar="CELL", help="whose; see above")
        parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of the grid")
        if name == "status":
            parser.add_argument("--watch", action="store_true", help="until all have ended")
        # A name may hold an equals sign too, after a space.
        said = [word for word in words if "=" in word and not word.startswith("--")]
        overrides = [word for word in said if " " not in word.split("=")[0]]
        asked = parser.parse_args([word for word in words if word not in overrides])
        config = command.composed([f"paths.root={asked.root}", *overrides])
        if name == "status":
            return _status(config, asked.cells, watch=asked.watch)
        return {"cancel": _cancel, "logs": _logs}[name](config, asked.cells)

    command.run(main)


def survey(tasks: list[Task]) -> list[Status]:
    """Where tasks are, whoever was asked to run them."""
    of_slurm: list[Task] = []
    others: list[Task] = []
    for task in tasks:
        record = read_submission(task.folder)
        (of_slurm if record and record.launcher == slurm.NAME else others).append(task)
    found = {s.task.name: s for s in [*slurm.survey(of_slurm), *local.survey(others)]}
    return [found[task.name] for task in tasks]


def _all(config: Config) -> list[Task]:
    """All that there are; reading them takes its time. Raises `UserError` where there is none."""
    root = Path(config.paths.root)
    tasks = all_tasks(root)
    if not tasks:
        raise UserError(f"No cell was ever started below paths.root={root}.")
    return tasks


def _called_so(tasks: list[Task], names: list[str]) -> list[Task]:
    """Tasks called so, see `NAMES`, and training and encoding jobs that no other cell needs."""
    if not names:
        return tasks
    told = full_names(tasks)
    chosen = [task for name in names for task in _called(name, tasks, told)]
    others = [task for task in tasks if task.kind == CELL and task not in chosen]
    own = {need for task in chosen for need in task.needs}
    own -= {need for task in others for need in task.needs}
    jobs = [task for task in tasks if task.kind in (TRAIN, ENCODE) and task.name in own]
    return [task for task in tasks if task in chosen or task in jobs]


def _called(name: str, tasks: list[Task], told: dict[str, str]) -> list[Task]:
    """The task of that name, or those of a pattern."""
    if "*" in name:
        found = [task for task in tasks if fnmatchcase(task.name, name)]
    else:
        whole = [task for task in tasks if name in (task.name, told[task.name])]
        same = [task for task in tasks if task.label == name]
        found = whole or same or [task for task in tasks if task.name.startswith(name)]
    if not found:
        raise UserError(f"No cell is called {name}: there are {', '.join(sorted(told.values()))}.")
    if len(found) > 1 and "*" not in name:
        several = "\n".join(f"  {task.name}  {told[task.name]}" for task in found)
        raise UserError(f"{name} could be any of\n{several}\nName one by its id, or say '{name}*'.")
    return found


def _status(config: Config, names: list[str], *, watch: bool) -> int:
    as_json, seen = config.status.format is StatusFormat.json, Seen(config, names)
    if watch and not as_json and screen.fits(sys.stdout):
        seen()  # whatever is refused is refused before there is a table
        return status.watch(seen)
    while True:
        statuses = seen()
        if as_json:
            text = json.dumps([found.as_dict() for found in statuses], indent=2)
        else:
            text = status.as_table(statuses)
        print(f"{CLEAR if watch and sys.stdout.isatty() else ''}{text}", flush=True)
        if not watch or all(found.state in status.ENDED for found in statuses):
            return status.exit_status(statuses)
        time.sleep(WATCH_SECONDS)


class Seen:
    """The tasks called so, read again only where others have come: there may be thousands.

    What they need is looked at too, as it may be why they wait.
    """

    def __init__(self, config: Config, names: list[str]) -> None:
        self.config, self.names = config, names
        self._there: set[Path] = set()
        self._tasks: list[Task] = []
        self._chosen: set[str] = set()

    def __call__(self) -> list[Status]:
        """Where they are now."""
        root = Path(self.config.paths.root)
        there = set(root.glob(f"*/*/{TASK}"))
        if there != self._there or not there:
            self._tasks, self._there = _all(self.config), there
            self._chosen = {task.name for task in _called_so(self._tasks, self.names)}
        return [one for one in survey(self._tasks) if one.task.name in self._chosen]


def _cancel(config: Config, names: list[str]) -> int:
    if not names:
        raise UserError("Say which cells: python -m lion_sweep.cancel 8b-sparse-cl, or all.")
    tasks = _called_so(_all(config), [] if names == ["all"] else names)
    told = full_names(tasks)
    active = [s for s in survey(tasks) if s.state in (status.QUEUED, status.RUNNING)]
    for found in active:
        name = told[found.task.name]
        if not found.job:
            print(f"{name}: a command of this machine is at it, which Ctrl-C there ends")
            continue
        if job_of(found.task.folder, slurm.NAME):
            queue.cancel([found.job])
        else:
            local.cancel(found.job)
        print(f"{name}: cancelled job {found.job}")
    if not active:
        print("nothing is queued or running")
    return status.ALL_FINISHED


def _logs(config: Config, names: list[str]) -> int:
    if not names:
        raise UserError("Say whose log: python -m lion_sweep.logs 8b-sparse-cl.")
    for task in _called_so(_all(config), names):
        record = read_submission(task.folder)
        logs = [task.folder / "log.txt"]
        if record and record.job:
            logs.append(job_log(task.root, record.job))
        for log in logs:
            if log.is_file():
                print(f"==> {log} <==\n{log.read_text(encoding='utf-8')}")
    return status.ALL_FINISHED
