"""The cells that one command names: checked together before any of them runs, summed up at the end.

Hydra's callbacks are the seam: they see the whole grid before its first cell, and run it
themselves. Hydra's own loop would compose every cell twice more, from files that may have changed.
"""

import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from lion_sweep import command, preflight
from lion_sweep import config as configuration
from lion_sweep.cell.cell import Cell, cell_names
from lion_sweep.cell.prepare import Prepare
from lion_sweep.cell.tasks import WHEREABOUTS, Task, read_attempts, tasks_of
from lion_sweep.config import BudgetKind, Config
from lion_sweep.config.composing import (
    NULL_SECTION,
    PRIMARY,
    compose_cells,
    inside_null,
    refuse_moved,
    swept,
)
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError, sentence, trace
from lion_sweep.files import read_note
from lion_sweep.machine import board, screen
from lion_sweep.machine.board import FAILED, FINISHED, QUEUED, Row
from lion_sweep.machine.progress import duration
from lion_sweep.plan.planner import Planner
from lion_sweep.result import Result

COMPLETE, HOLES = 0, 3
# What Hydra would do around a cell, which cells here do without: what it is where nobody asks for
# it, and what to say instead.
UNREAD: dict[str, tuple[Any, str]] = {
    "run.dir": ("${paths.root}/hydra", "paths.root=FOLDER is where everything is written"),
    "sweep.dir": ("${paths.root}/hydra", "paths.root=FOLDER is where everything is written"),
    "job.chdir": (None, "paths that do not begin with / are below the folder you are in"),
    "job.env_set": ({}, "set variables in your shell, or with site.slurm.setup"),
    "launcher._target_": (
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "site= says where cells run, site.parallel= how many at once",
    ),
    "sweeper._target_": (
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        "the cells of a grid are listed, as in -m seed=1,2,3",
    ),
}

Launcher = Callable[[list[Task]], int]
"""Has what is left to do of some tasks done elsewhere; returns the command's exit status."""


@dataclass
class Outcome:
    """What became of a cell."""

    cell: Cell
    result: Result | None
    seconds: float
    error: BaseException | None = None

    @property
    def failure(self) -> str:
        """What went wrong, in plain words where there are any."""
        return sentence(self.error) if self.error else ""


class Rows:
    """The cells that this process does one after the other, for the table on a terminal."""

    def __init__(self, cells: list[tuple[Cell, str]]) -> None:
        self.cells, self.outcomes = cells, list[Outcome]()
        self._done: list[Row] = []
        waiting = ((name, FINISHED if cell.complete else QUEUED) for cell, name in cells)
        self._waiting = [Row(name, state) for name, state in waiting]

    def drawn(self, columns: int, lines: int) -> board.Drawn:
        """The table as it is now."""
        return board.drawn(self.now(), columns, lines)

    def now(self) -> list[Row]:
        """A row for each cell, in their order."""
        for outcome in self.outcomes[len(self._done) :]:
            name, took = self.cells[len(self._done)][1], outcome.seconds or None
            if outcome.result is None:
                row = Row(name, FAILED, said=outcome.failure, seconds=took)
            else:
                measure, value, _ = _headline(outcome.result)
                row = Row(name, FINISHED, said=f"{measure} {value:.4f}", seconds=took)
            self._done.append(row)
        if not (left := self.cells[len(self._done) :]):
            return list(self._done)
        cell, name = left[0]
        where = read_note(cell.folder / WHEREABOUTS)
        took = board.spent(read_attempts(cell.folder)[-1:], running=True)
        running = Row.running(name, where, took)
        return [*self._done, running, *self._waiting[len(self._done) + 1 :]]


class Session:
    """The cells of one command; `launcher_for` chooses who runs them (None: this process)."""

    def __init__(self, launcher_for: Callable[[list[Config], SiteName], Launcher | None]) -> None:
        self.launcher_for, self.start = launcher_for, time.monotonic()

    def run(self, configs: list[Config], references: list[Config | None]) -> int:
        """The exit status of all cells, here or wherever the site has them run.

        `references` are the cells that budgets are anchored to, None for the others. Raises
        `UserError` before the first cell where any of them is impossible.
        """
        anchors = [reference for reference in references if reference]
        site, settled = preflight.check([*configs, *anchors])
        # Budgets that others anchor, or measured steps, need the lengths of all texts at once.
        exact = anchors or configs[0].budget.kind is BudgetKind.gpu_hours
        waits = site is SiteName.slurm and not exact
        planner, settled_cells = Planner(site, waits=waits), settled[: len(configs)]
        launcher = self.launcher_for(settled_cells, site)
        for config in {config.data.name: config for config in settled_cells}.values():
            preflight.introduce(planner, config)
        anchored = iter(settled[len(configs) :])
        configs = [
            planner.settled(config, next(anchored) if reference else None)
            for config, reference in zip(settled_cells, references, strict=True)
        ]
        preflight.approve(planner, configs)
        cells = [planner.cell(config) for config in configs]
        preflight.name_alike(cells)
        if launcher and not all(cell.complete for cell in cells):
            waiting = any(planner.estimate(config) for config in configs)
            prepare = Prepare.of(cell.stages for cell in cells) if waiting else None
            return launcher(tasks_of(cells, prepare))
        for cell in cells:  # a report names those that were asked for and never ran
            if not cell.complete:
                Task.of(cell).freeze()
        rows = Rows(list(zip(cells, cell_names(cells), strict=True)))
        with screen.shown(rows.drawn) if len(cells) > 1 else nullcontext():
            for cell, name in rows.cells:
                rows.outcomes.append(_outcome(cell, site, name))
        outcomes = rows.outcomes
        print(summary(outcomes, time.monotonic() - self.start))
        return COMPLETE if all(outcome.result for outcome in outcomes) else HOLES


def _outcome(cell: Cell, site: SiteName, name: str) -> Outcome:
    """Of doing a cell: whatever goes wrong with it is recorded and leaves the others alone."""
    start = time.monotonic()
    if cell.complete:
        return Outcome(cell, cell.read_result(), 0.0)
    task = Task.of(cell, called=name)
    try:
        from lion_sweep.cell import work  # here, so that planning need not wait for it

        progress = work.do(task, site)
    except BrokenPipeError:
        raise  # nobody reads what is said of any cell
    except Exception as error:
        trace(error)
        outcome = Outcome(cell, None, time.monotonic() - start, error)
        log = task.folder / "log.txt"
        print(f"{task.label}: FAILED: {outcome.failure} (log: {log})", flush=True)
        return outcome
    result, seconds = cell.read_result(), time.monotonic() - start
    measure, value, before = _headline(result)
    spent = result["ledger"]["train"]["spent"]
    progress.say(
        f"{measure} {value:.4f} (untrained {before:.4f}) after {spent['steps']} steps, "
        f"{spent['useful_flops']:.3g} FLOPs, {duration(seconds)}"
    )
    return Outcome(cell, result, seconds)


def _headline(result: Result) -> tuple[str, float | None, float | None]:
    """(measure, score, score before training) of the first collection's first measure."""
    name, means = next(iter(result["scores"].items()))
    measure, value = next(iter(means.items()))
    return measure, value, result["untrained"][name][measure]


def summary(outcomes: list[Outcome], seconds: float) -> str:
    """A table of all cells of the command."""
    names = cell_names([outcome.cell for outcome in outcomes])
    width, rows = max(map(len, [*names, "cell"])), []
    for outcome, name in zip(outcomes, names, strict=True):
        if outcome.result is None:
            rows.append(f"{name:<{width}} FAILED   {outcome.failure}")
            continue
        _, value, before = _headline(outcome.result)
        took = "done before" if outcome.seconds == 0 else duration(outcome.seconds)
        rows.append(
            f"{name:<{width}} {value:.4f}   {before:.4f}      {took:<12} {outcome.cell.folder}"
        )
    done = sum(outcome.result is not None for outcome in outcomes)
    head = f"{'cell':<{width}} score    untrained   time         folder"
    return "\n".join(
        ["", head, *rows, f"{done} of {len(outcomes)} cells complete, {duration(seconds)}"]
    )


def start(run: Callable[[list[Config], list[Config | None]], int]) -> None:
    """A command of Hydra's, which leaves with the exit status that `run` gives of its cells.

    What Hydra refuses before the grid is known is said in plain words too.
    """
    GridCallback.run = staticmethod(run)
    with command.plainly():
        configuration.register()
        command.quiet()
        os.environ["HYDRA_FULL_ERROR"] = "1"  # have it raise, where it would print and leave
        overrides = _in_order()
        refuse_moved(overrides)
        folder = str(configuration.config_folder())
        try:
            hydra.main(version_base="1.3", config_path=folder, config_name=PRIMARY)(_unreached)()
        except NULL_SECTION as error:
            raise inside_null(error, overrides) from None


def _in_order() -> list[str]:
    """The overrides of the command line, put side by side there, as Hydra wants them.

    Raises `UserError` for an option that is unknown, or that would leave the options here out.
    """
    parser = get_args_parser()
    asked, more = parser.parse_known_args()
    command.refuse_words([word for word in more if word.startswith("-")], parser)
    if asked.config_path:
        raise UserError(
            f"--config-path={asked.config_path} would take the place of all options there are: "
            "--config-dir=FOLDER adds yours to them."
        )
    if asked.experimental_rerun:
        raise UserError("--experimental-rerun reads what Hydra has written, which is nothing here.")
    overrides: list[str] = [*asked.overrides, *more]
    options = [word for word in sys.argv[1:] if word not in overrides]
    swept = "hydra.sweeper.params"  # a section that is empty, which Hydra would not have filled
    overrides = [f"++{word}" if word.startswith(swept) else word for word in overrides]
    sys.argv[1:] = [*overrides, *options]
    return overrides


def _unreached(_: DictConfig) -> None:
    """Not reached where the grid's callback is: it leaves."""
    raise UserError(
        "The configuration that was named is not one of lion_sweep's: begin it with "
        f"`defaults: [{PRIMARY}, _self_]`."
    )


class GridCallback(Callback):
    """Has the whole grid run before Hydra runs its first cell."""

    run: Callable[[list[Config], list[Config | None]], int]

    def on_run_start(self, config: DictConfig, **named: Any) -> None:
        """One cell was asked for, or what a configuration says is to be swept."""
        self._start(config.hydra, named["config_name"])

    on_multirun_start = on_run_start

    def _start(self, told: DictConfig, primary: str) -> NoReturn:
        gc.freeze()  # modules never become garbage: looking takes a second at the exit alone
        with command.plainly():  # Hydra would only warn of an error, and go on
            raise SystemExit(self.run(*compose_cells(_cells(told), primary)))


def _cells(told: DictConfig) -> list[list[str]]:
    """The words of every cell, of what Hydra was told.

    Words stand as they were given: interpolations in them are the cell's. Raises `UserError` where
    something was asked for that is not read.
    """
    given: dict[str, Any] = OmegaConf.to_container(told, resolve=False)  # type: ignore[assignment]
    for key, (left, instead) in UNREAD.items():
        section, _, name = key.partition(".")
        if given[section].get(name) not in (left, None):
            raise UserError(f"hydra.{key}={given[section][name]} is not read: {instead}.")
    params = dict(told.sweeper.params or {})
    places = [word for word in told.overrides.hydra if word.startswith("hydra.searchpath")]
    words = [*(f"{key}={value}" for key, value in params.items()), *given["overrides"]["task"]]
    return [[*places, *cell] for cell in swept(words)]
