"""The cells that one command names: checked together before any of them runs, summed up at the end.

Hydra's callbacks are the seam: they see the whole grid before its first cell, and run it
themselves. Hydra's own loop would compose every cell twice more, from files that may have changed.
"""

import gc
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lion_sweep import command, preflight
from lion_sweep import config as configuration
from lion_sweep.cell.cell import Cell, cell_names
from lion_sweep.cell.result import Result
from lion_sweep.cell.tasks import CELL, Task, tasks_of
from lion_sweep.config import Config
from lion_sweep.config.composing import NULL_SECTION, compose_cells, inside_null, refuse_moved
from lion_sweep.config.site import SiteName
from lion_sweep.errors import IMPOSSIBLE, UserError, refuse
from lion_sweep.machine.progress import duration
from lion_sweep.plan.planner import Planner

COMPLETE, HOLES = 0, 3


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
        plainly = isinstance(self.error, UserError | OSError)
        return str(self.error) if plainly else repr(self.error)


class Session:
    """The cells of one command; `launcher_for` chooses who runs them (None: this process)."""

    def __init__(self, launcher_for: Callable[[Config, SiteName], Launcher | None]) -> None:
        self.launcher_for, self.start = launcher_for, time.monotonic()

    def run(self, configs: list[Config], references: list[Config | None]) -> int:
        """The exit status of all cells, here or wherever the site has them run.

        `references` are the cells that budgets are anchored to, None for the others. Raises
        `UserError` before the first cell where any of them is impossible.
        """
        anchors = [reference for reference in references if reference]
        site, settled = preflight.check([*configs, *anchors])
        launcher = self.launcher_for(configs[0], site)
        planner, settled_cells = Planner(site), settled[: len(configs)]
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
            return launcher(tasks_of(cells))
        for cell in cells:  # a report names those that were asked for and never ran
            if not cell.complete:
                Task(CELL, cell.id, cell.config).freeze()
        outcomes = []
        for cell in cells:
            outcomes.append(_outcome(cell, site))
            if isinstance(outcomes[-1].error, KeyboardInterrupt):
                break
        print(summary(outcomes, time.monotonic() - self.start))
        return COMPLETE if all(outcome.result for outcome in outcomes) else HOLES


def _outcome(cell: Cell, site: SiteName) -> Outcome:
    """Of doing a cell: whatever goes wrong is recorded and leaves the other cells alone."""
    start = time.monotonic()
    if cell.complete:
        return Outcome(cell, cell.read_result(), 0.0)
    task = Task(CELL, cell.id, cell.config)
    try:
        from lion_sweep.cell import work  # here, so that planning need not wait for it

        progress = work.do(task, site)
    except (Exception, KeyboardInterrupt) as error:
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
    configuration.register()
    command.quiet()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # have it raise, where it would print and leave
    folder = str(configuration.config_folder())
    try:
        refuse_moved(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=folder, config_name="config")(_unreached)()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        refuse(error)
    except NULL_SECTION as error:
        told = inside_null(error, sys.argv[1:])
        if told is error:
            raise
        refuse(told)


def _unreached(_: DictConfig) -> None:
    """Not reached, as the grid's callback leaves, unless it failed: Hydra only warns of that."""
    raise SystemExit(IMPOSSIBLE)


def _words(config: DictConfig) -> list[str]:
    """The overrides as they were given: interpolations in them are the cell's."""
    words = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(words, list)
    return words


class GridCallback(Callback):
    """Has the whole grid run before Hydra runs its first cell."""

    run: Callable[[list[Config], list[Config | None]], int]

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """One cell was asked for."""
        self._start([_words(config)])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """A grid was asked for."""
        overrides = OverridesParser.create().parse_overrides(_words(config))
        sweeper = get_class(config.hydra.sweeper["_target_"])
        (cells,) = sweeper.split_arguments(overrides, max_batch_size=None)  # type: ignore[attr-defined]
        self._start(cells)

    def _start(self, cells: list[list[str]]) -> NoReturn:
        gc.freeze()  # modules never become garbage: looking takes a second at the exit alone
        try:
            raise SystemExit(self.run(*compose_cells(cells)))
        except command.REFUSED as error:
            refuse(error)
        except Exception:  # Hydra would only warn of it, and go on
            traceback.print_exc()
            raise SystemExit(IMPOSSIBLE) from None
