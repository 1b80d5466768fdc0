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
from typing import Any, NoReturn, Protocol

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lion_sweep import preflight
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.names import label
from lion_sweep.cell.result import Result
from lion_sweep.cell.tasks import CELL, Task, tasks_of
from lion_sweep.config import Config
from lion_sweep.config.composing import NULL_SECTION, compose_cells, inside_null
from lion_sweep.config.site import SiteName
from lion_sweep.errors import IMPOSSIBLE, UserError, refuse
from lion_sweep.machine.progress import duration
from lion_sweep.plan.planner import Planner

COMPLETE, HOLES = 0, 3


class Launcher(Protocol):
    """Has tasks done elsewhere than in this process."""

    def __call__(self, tasks: list[Task]) -> int:
        """Start what is left to do of the tasks; returns the command's exit status."""


def in_this_process(config: Config, site: SiteName) -> Launcher | None:
    """No launcher: cells run here, one after the other."""
    return None


@dataclass
class Outcome:
    """What became of a cell."""

    cell: Cell
    result: Result | None
    seconds: float
    failure: str = ""


class Session:
    """The cells of one command; `launcher_for` chooses who runs them."""

    def __init__(
        self, launcher_for: Callable[[Config, SiteName], Launcher | None] = in_this_process
    ) -> None:
        self.launcher_for = launcher_for
        self.site: SiteName | None = None
        self.planner: Planner | None = None
        self.configs: list[Config] = []
        self.outcomes: list[Outcome] = []
        self.start = time.monotonic()

    def prepare(self, configs: list[Config], references: list[Config | None]) -> None:
        """Refuse the whole grid where any of its cells is impossible; derive the collection.

        `references` are the cells that budgets are anchored to, None for the others.
        """
        anchors = [reference for reference in references if reference]
        self.site, settled = preflight.check([*configs, *anchors])
        self.planner, cells = Planner(self.site), settled[: len(configs)]
        for config in {config.data.name: config for config in cells}.values():
            preflight.introduce(self.planner, config)
        anchored = iter(settled[len(configs) :])
        self.configs = [
            self.planner.settled(config, next(anchored) if reference else None)
            for config, reference in zip(cells, references, strict=True)
        ]
        preflight.approve(self.planner, self.configs)

    def run(self) -> NoReturn:
        """All cells, here or wherever the site has them run; leaves with the exit status."""
        assert self.planner is not None and self.site is not None
        cells = [self.planner.cell(config) for config in self.configs]
        launcher = self.launcher_for(self.configs[0], self.site)
        if launcher and not all(cell.complete for cell in cells):
            raise SystemExit(launcher(tasks_of(cells)))
        for cell in cells:
            self._run(cell)
        self.finish()

    def _run(self, cell: Cell) -> None:
        """One cell; whatever goes wrong is recorded and leaves the other cells alone."""
        assert self.site is not None
        start = time.monotonic()
        if cell.complete:
            self.outcomes.append(Outcome(cell, cell.read_result(), 0.0))
            return
        task = Task(CELL, cell.id, cell.config)
        try:
            from lion_sweep.cell import work  # here, so that planning need not wait for it

            task.freeze()
            progress = work.do(task, self.site)
        except (Exception, KeyboardInterrupt) as error:
            failure = str(error) if isinstance(error, UserError | OSError) else repr(error)
            print(f"{task.label}: FAILED: {failure} (log: {task.folder / 'log.txt'})", flush=True)
            self.outcomes.append(Outcome(cell, None, time.monotonic() - start, failure))
            if isinstance(error, KeyboardInterrupt):
                self.finish()
            return
        outcome = Outcome(cell, cell.read_result(), time.monotonic() - start)
        self.outcomes.append(outcome)
        progress.say(describe(outcome))

    def finish(self) -> NoReturn:
        """Print the summary and leave: 0 when every cell has its result, else 3."""
        print(summary(self.outcomes, time.monotonic() - self.start))
        complete = bool(self.outcomes) and all(outcome.result for outcome in self.outcomes)
        raise SystemExit(COMPLETE if complete else HOLES)


def describe(outcome: Outcome) -> str:
    """One line about a finished cell."""
    result = outcome.result
    assert result is not None
    (name, means), spent = next(iter(result["scores"].items())), result["ledger"]["train"]["spent"]
    measure, value = next(iter(means.items()))
    before = result["untrained"][name][measure]
    return (
        f"{measure} {value:.4f} (untrained {before:.4f}) after {spent['steps']} steps, "
        f"{spent['useful_flops']:.3g} FLOPs, {duration(outcome.seconds)}"
    )


def summary(outcomes: list[Outcome], seconds: float) -> str:
    """A table of all cells of the command."""
    rows = []
    for outcome in outcomes:
        name = label(outcome.cell.config)
        if outcome.result is None:
            rows.append(f"{name:<18} FAILED   {outcome.failure}")
            continue
        name_of_data, means = next(iter(outcome.result["scores"].items()))
        measure, value = next(iter(means.items()))
        before = outcome.result["untrained"][name_of_data][measure]
        took = "done before" if outcome.seconds == 0 else duration(outcome.seconds)
        rows.append(f"{name:<18} {value:.4f}   {before:.4f}      {took:<12} {outcome.cell.folder}")
    done = sum(outcome.result is not None for outcome in outcomes)
    head = f"{'cell':<18} score    untrained   time         folder"
    return "\n".join(
        ["", head, *rows, f"{done} of {len(outcomes)} cells complete, {duration(seconds)}"]
    )


SESSION = Session()


def start(main: Callable[[], None]) -> None:
    """A command of Hydra's; what it refuses before the grid is known is said in plain words too."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # have it raise, where it would print and leave
    try:
        main()
    except (HydraException, OmegaConfBaseException) as error:
        refuse(error)
    except NULL_SECTION as error:
        told = inside_null(error, sys.argv[1:])
        if told is error:
            raise
        refuse(told)


def _words(config: DictConfig) -> list[str]:
    """The overrides as they were given: interpolations in them are the cell's."""
    words = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(words, list)
    return words


class GridCallback(Callback):
    """Checks the grid before its first cell, then runs it."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """One cell was asked for."""
        self._start([_words(config)])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """A grid was asked for."""
        overrides = OverridesParser.create().parse_overrides(_words(config))
        (cells,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        self._start(cells)

    def _start(self, cells: list[list[str]]) -> NoReturn:
        gc.freeze()  # modules never become garbage: looking takes a second at the exit alone
        try:
            SESSION.prepare(*compose_cells(cells))
            SESSION.run()
        except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
            refuse(error)
        except Exception:  # Hydra would only warn of it, and go on
            traceback.print_exc()
            raise SystemExit(IMPOSSIBLE) from None
