"""Measured step time and memory: a few real steps of a cell on the device at hand."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lion_sweep.cell.names import label
from lion_sweep.config import Config
from lion_sweep.cost.meter import Spending
from lion_sweep.machine.progress import Progress
from lion_sweep.plan.cells import CALIBRATION, CellPlan
from lion_sweep.plan.planner import Planner
from lion_sweep.stages import engine, weights
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.optimisation import Run

# The first steps compile, allocate and warm up; they are not measured.
WARM_UP, MEASURED = 3, 7


def calibrate(planner: Planner, config: Config) -> None:
    """Measure what the cell's steps take, unless that is known for this device already."""
    cell = planner.training(config)
    if cell.measured:
        return
    shop = Workshop(Path(config.paths.root), Progress(label(config), None), cell.fit.execution)
    shop.progress.begin(CALIBRATION)
    done = engine.run(cell.folder, cell.calibration(), partial(_steps, cell, shop))
    shop.progress.end(CALIBRATION, done.seconds, done.reused)
    cell.__dict__.pop("measured", None)  # it was looked up before there was any


def _steps(cell: CellPlan, shop: Workshop, folder: Path) -> dict[str, Any]:
    """Steps, FLOP/s of a device, and the most memory that was allocated."""
    moments: list[float] = []

    def on_step(done: int, total: int, values: dict[str, float]) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        moments.append(time.perf_counter())
        shop.progress.step(done, total, values)

    train, fit, execution = cell.stages.train, cell.fit, shop.execution
    backbone = weights.load(train.start, execution, None, sharded=fit.sharded)
    run = Run(execution.accelerator, folder, 1 << 30, on_step)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with weights.compiling(shop, "calibration", backbone):
        # Groups' own scores are as good as any teacher's here.
        sampler, plan = train.course.draws.sampler(shop), Spending(steps=WARM_UP + MEASURED)
        train.steps(shop, backbone, fit, sampler, plan, run)
    _, padded_SL = fit.counts.block(0)
    flops_S = padded_SL @ fit.meter.hardware_L
    # The median, because a step with shapes that are new to the libraries can take seconds.
    rates = flops_S[WARM_UP : len(moments)] / np.diff(moments)[WARM_UP - 1 :]
    rate = float(np.median(rates)) / execution.accelerator.num_processes
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"steps": MEASURED, "rate": rate, "peak_memory": peak}
