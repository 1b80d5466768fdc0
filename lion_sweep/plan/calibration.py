"""Measured step time and memory: a few real steps of a cell on the device at hand."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lion_sweep import prepare
from lion_sweep.config import Config
from lion_sweep.meter import Spending
from lion_sweep.pipeline import Pipeline
from lion_sweep.plan.planner import Planner
from lion_sweep.plan.training import CALIBRATION
from lion_sweep.training import loop

# The first steps compile, allocate and warm up; they are not measured.
WARM_UP, MEASURED = 3, 7


def calibrate(planner: Planner, config: Config) -> None:
    """Measure what the cell's steps take, unless that is known for this device already."""
    training, workshop = planner.training(config), planner.workshop(config)
    if training.measured:
        return
    texts = planner.collection(config)
    pipeline = Pipeline(config, planner.site, workshop, texts)
    moments: list[float] = []

    def on_step(done: int, total: int, values: dict[str, float]) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        moments.append(time.perf_counter())
        workshop.progress.step(done, total, values)

    def work(folder: Path) -> dict[str, Any]:
        quiet = replace(config, recipe=replace(config.recipe, checkpoint_every=1 << 30))
        backbone = pipeline.load(None, sharded=training.sharded)
        encoder = pipeline.encoder(backbone)
        groups = prepare.groups(workshop, texts)  # whose scores are as good as any here
        data = pipeline.training_data(groups, Spending(steps=WARM_UP + MEASURED))
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with pipeline.compiled("calibration", backbone):
            loop.train(encoder, data, quiet, pipeline.accelerator, folder, on_step)
        _, padded_SL = training.counts.block(0)
        flops_S = padded_SL @ training.meter.hardware_L
        # The median, because a step with shapes that are new to the libraries can take seconds.
        rates = flops_S[WARM_UP : len(moments)] / np.diff(moments)[WARM_UP - 1 :]
        rate = float(np.median(rates)) / pipeline.accelerator.num_processes
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        return {"steps": MEASURED, "rate": rate, "peak_memory": peak}

    workshop.run(CALIBRATION, training.calibration(), work)
    training.__dict__.pop("measured", None)  # it was looked up before there was any
