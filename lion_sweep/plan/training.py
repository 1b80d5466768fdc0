"""What the training of a cell will take, before anything is loaded."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lion_sweep.config import Config
from lion_sweep.cost.meter import Spending
from lion_sweep.errors import UserError
from lion_sweep.machine.progress import duration
from lion_sweep.stages import engine
from lion_sweep.stages.base import identity
from lion_sweep.stages.engine import Done
from lion_sweep.stages.of_cell import CellStages
from lion_sweep.training.fit import Fit

CALIBRATION = "calibrate"


@dataclass(frozen=True)
class TrainingPlan:
    """A cell's training: how it fits its devices, what it costs, how long it takes."""

    config: Config
    stages: CellStages
    fit: Fit

    def calibration(self) -> dict[str, Any]:
        """What a measured step time holds for: all that changes what a step computes, and where."""
        train, fit = self.stages.train, self.fit
        optimisation = train.optimisation
        return {
            "decoder": identity(train.start.blueprint),
            "lora": identity(train.start.lora),
            "precision": identity(train.start.precision),
            "texts": identity([train.queries, train.passages]),
            "draws": identity(train.untaught),
            "supervision": identity(train.supervision),
            "rows_train": bool(optimisation.embedding_rate),
            "micro_batch_tokens": fit.counts.tokens,
            "cached": fit.caches,
            "sharded": fit.sharded,
            "compile": fit.execution.compile,
            "device": self.fit.execution.device.name,
            "devices": self.fit.devices,
        }

    @property
    def folder(self) -> Path:
        """Of the calibration."""
        root = Path(self.config.paths.root)
        return engine.folder_of(root, CALIBRATION, self.calibration())

    @cached_property
    def measured(self) -> Done | None:
        """The finished calibration, or None."""
        return engine.find(self.folder, self.calibration())

    @cached_property
    def rate(self) -> float | None:
        """FLOP/s of the hardware on one device: measured, or a share of the published peak."""
        if self.measured:
            return float(self.measured.facts["rate"])
        peak = self.fit.execution.device.peak_flops
        return None if peak is None else peak * self.config.site.efficiency

    def seconds(self, work: Spending) -> float | None:
        """Wall-clock time of some work on all devices of the cell."""
        return None if self.rate is None else work.hardware_flops / self.rate / self.fit.devices

    def gpu_hours(self, work: Spending) -> float | None:
        """The same in hours of one GPU; None on a machine without."""
        seconds = self.seconds(work)
        return (
            None
            if seconds is None or not self.fit.execution.device.gpu
            else seconds * self.fit.devices / 3600
        )


def steps_of_hours(training: TrainingPlan) -> int:
    """The steps that a budget of GPU-hours comes to. Raises `UserError` where that is not known."""
    budget, fit = training.config.budget, training.fit
    assert budget.gpu_hours is not None
    if training.measured is None:
        raise UserError(
            f"budget.gpu_hours={budget.gpu_hours:g} needs a measured step time on "
            f"{fit.execution.device.name}, and there is none: give the same overrides to "
            "python -m lion_sweep.plan --calibrate first."
        )
    _, padded_SL = fit.counts.block(0)
    flops = float((padded_SL @ fit.meter.hardware_L).mean())  # of a step
    seconds = flops / training.measured.facts["rate"] / fit.devices
    steps = int(budget.gpu_hours * 3600 / fit.devices / seconds)
    if steps == 0:
        raise UserError(
            f"budget.gpu_hours={budget.gpu_hours:g} is less than one step of "
            f"{duration(seconds)} on {fit.devices} x {fit.execution.device.name}: "
            "raise it, or lower loss.batch_size."
        )
    return steps
