"""trackio: runs in a file of this machine, and a page that shows them, without an account."""

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any

from lion_sweep.config.section import require
from lion_sweep.machine.tracked import Told, Tracked

PACKAGE = "trackio"


def check_trackio() -> None:
    """Raises `UserError` where the package is not here."""
    require(
        find_spec(PACKAGE) is not None,
        f"tracking=trackio needs a package that is not here: pip install {PACKAGE}. Or use "
        "tracking=wandb, which works offline, or tracking=none.",
    )


class TrackioRun:
    """A cell's run, which goes on through attempts; see `Backend`."""

    whole = False

    def __init__(self, cell: Tracked) -> None:
        self.cell, self.last = cell, 0
        self.run: Any = None

    def begin(self) -> int:
        import trackio

        cell = self.cell
        with redirect_stdout(io.StringIO()):
            self.run = trackio.init(
                project=cell.project,
                name=cell.id,
                group=cell.group,
                config=dict(cell.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        # Steps count from 0 there; what is logged here counts from 1.
        self.last = max(0, int(self.run._next_step) - 1)
        return self.last

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)
        self.last = step

    def end(self, told: Told, error: type[BaseException] | None) -> None:
        """It has no summary: what a cell ends with is one more line of its last step."""
        if told.summary:
            self.run.log({f"final/{name}": v for name, v in told.summary.items()}, step=self.last)
        with redirect_stdout(io.StringIO()):
            self.run.finish()

    def instead(self) -> None:
        """Nothing."""
