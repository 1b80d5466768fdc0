"""The rows of a plan: what every cell takes, what cells share, and whether it fits."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from lion_sweep.cell.names import axes, full_names, label, settings
from lion_sweep.cell.prepare import spread
from lion_sweep.config import Config, LadderName
from lion_sweep.config.site import When
from lion_sweep.cost.meter import Spending
from lion_sweep.errors import UserError
from lion_sweep.machine.devices import GIB
from lion_sweep.machine.progress import duration
from lion_sweep.plan.disk import Disk
from lion_sweep.stages import engine
from lion_sweep.stages.base import identity
from lion_sweep.stages.engine import Done
from lion_sweep.stages.of_cell import CellStages
from lion_sweep.training.fit import Fit

CALIBRATION = "calibrate"


def _fitting(config: Config, fit: Fit, limit: float) -> str:
    """What to change so that the largest step fits."""
    cached = replace(fit, caches=True)
    changes = [] if fit.caches else ["recipe.gradient_cache=auto"]
    if changes and cached.fitting(limit):
        return f"{changes[0]} fits"
    if config.site.shard is When.never:
        changes.append("site.shard=auto")
    devices = fit.devices
    while config.recipe.lora and config.loss.batch_size % devices == 0:
        more = [f"site.devices={devices}"] if devices > fit.devices else []
        spread = replace(cached, sharded=True, execution=replace(fit.execution, devices=devices))
        if devices > 1 and spread.fitting(limit):
            return f"{' '.join([*more, *changes])} fits"
        devices *= 2
    return "not even one text at a time fits: take a larger device"


@dataclass(frozen=True)
class CellPlan:
    """One row of a plan: how a cell fits its devices, what it costs, how long it takes."""

    config: Config
    stages: CellStages
    fit: Fit
    encoding: Spending = field(default_factory=Spending)  # of what the trained cell is scored on
    estimate: str = ""  # what lengths are taken from, where the texts are not read yet

    @property
    def work(self) -> Spending:
        """Training and encoding."""
        return self.fit.spending + self.encoding

    def calibration(self) -> dict[str, Any]:
        """What a measured step time holds for: all that changes what a step computes, and where."""
        train, fit = self.stages.train, self.fit
        return {
            "decoder": identity(train.start.blueprint),
            "lora": identity(train.start.lora),
            "precision": identity(train.start.precision),
            "texts": identity([train.course.queries, train.course.passages]),
            "draws": identity(train.course.draws),
            "supervision": identity(train.supervision),
            "rows_train": bool(train.optimisation.embedding_rate),
            "micro_batch_tokens": fit.counts.tokens,
            "cached": fit.caches,
            "sharded": fit.sharded,
            "compile": fit.execution.compile,
            "device": fit.execution.device.name,
            "devices": fit.devices,
        }

    @property
    def folder(self) -> Path:
        """Of the calibration."""
        return engine.folder_of(Path(self.config.paths.root), CALIBRATION, self.calibration())

    @cached_property
    def measured(self) -> Done | None:
        """The finished calibration, or None."""
        return engine.find(self.folder)

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
        seconds = self.seconds(work) if self.fit.execution.device.gpu else None
        return None if seconds is None else seconds * self.fit.devices / 3600

    @property
    def longest_job(self) -> float | None:
        """Seconds of the cell's one job; with encoding jobs, of training or a share of encoding."""
        jobs = self.config.site.encode_jobs
        train, encode = self.seconds(self.fit.spending), self.seconds(self.encoding)
        if jobs == 1 or train is None or encode is None:
            return self.seconds(self.work)
        return max(train, encode / jobs)

    @cached_property
    def obstacles(self) -> list[str]:
        """Why it cannot run on its site, with the nearest setting that can; empty where it can."""
        config, fit, found = self.config, self.fit, []
        device, weights = fit.execution.device, fit.weights
        full = config.ladder is LadderName.full and config.model.backbone is None
        if full and not device.gpu:
            found.append("needs a GPU: site.device=h200, say, or ladder=proxy")
        needed, limit = fit.memory.total, device.usable_bytes
        if limit is not None and weights > limit:
            found.append(
                f"has weights of {weights / GIB:.1f} GiB, which encoding holds whole on "
                f"every {device.name} of {limit / GIB:.1f}: take a larger device"
            )
        elif limit is not None and needed > limit:
            found.append(
                f"needs {needed / GIB:.1f} GiB of {device.name}'s {limit / GIB:.1f}: "
                f"{_fitting(config, fit, limit)}"
            )
        hours, seconds = config.site.time_limit, self.longest_job
        if hours is not None and seconds is not None and seconds > hours * 3600:
            found.append(
                f"takes {duration(seconds)} of site.time_limit={hours:g} hours: raise it, add "
                "site.devices or site.encode_jobs, or lower the budget"
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """The row of the JSON plan: FLOPs, bytes, seconds; null is unknown."""
        config, fit, blueprint = self.config, self.fit, self.stages.blueprint
        spending, budget, measured = fit.spending, config.budget.flops, self.measured
        seconds, hours = self.seconds(spending), self.gpu_hours(self.work)
        assumed = f"{config.site.efficiency:.0%} of peak, assumed"
        return {
            "axes": axes(config),
            "ladder": config.ladder.name,
            "backbone": blueprint.source,
            "steps": spending.steps,
            "epochs": spending.steps / fit.counts.sampler.steps_per_epoch,
            "tokens": spending.tokens,
            "useful_flops": spending.useful_flops,
            "hardware_flops": spending.hardware_flops,
            "budget_flops": budget,
            "deviation": spending.useful_flops / budget - 1 if budget else None,
            "encode_flops": self.encoding.useful_flops,
            "memory_bytes": fit.memory.total,
            "memory": asdict(fit.memory),
            "memory_measured_bytes": measured.facts["peak_memory"] if measured else None,
            "device": fit.execution.device.name,
            "devices": fit.devices,
            "sharded": fit.sharded,
            "step_seconds": None if seconds is None else seconds / spending.steps,
            "train_seconds": seconds,
            "seconds": self.seconds(self.work),
            "gpu_hours": hours,
            "cost": _cost(hours, config),
            "time_from": "measured" if measured else assumed if self.rate else None,
            "fits": not self.obstacles,
            "obstacles": self.obstacles,
            "estimate": "; ".join(filter(None, [blueprint.estimate, self.estimate])) or None,
        }


def steps_of_hours(cell: CellPlan) -> int:
    """The steps that a budget of GPU-hours comes to. Raises `UserError` where that is not known."""
    budget, fit = cell.config.budget, cell.fit
    assert budget.gpu_hours is not None
    if cell.measured is None:
        raise UserError(
            f"budget.gpu_hours={budget.gpu_hours:g} needs a measured step time on "
            f"{fit.execution.device.name}, and there is none: give the same overrides to "
            "python -m lion_sweep.plan --calibrate first."
        )
    _, padded_SL = fit.counts.block(0)
    flops = float((padded_SL @ fit.meter.hardware_L).mean())  # of a step
    seconds = flops / cell.measured.facts["rate"] / fit.devices
    steps = int(budget.gpu_hours * 3600 / fit.devices / seconds)
    if steps == 0:
        raise UserError(
            f"budget.gpu_hours={budget.gpu_hours:g} is less than one step of "
            f"{duration(seconds)} on {fit.devices} x {fit.execution.device.name}: "
            "raise it, or lower loss.batch_size."
        )
    return steps


class SharedWork(NamedTuple):
    """What is done once for several cells: adapting a size, encoding it untrained, the teacher."""

    title: str
    spending: Spending
    seconds: float | None
    gpu_hours: float | None
    cells: int


@dataclass(frozen=True)
class GridPlan:
    """All cells of one command."""

    cells: list[CellPlan]
    shared: list[SharedWork]
    disk: Disk

    @property
    def gpu_hours(self) -> float | None:
        """Of everything; None where a step's time cannot be told, or nothing runs on a GPU."""
        hours = [cell.gpu_hours(cell.work) for cell in self.cells]
        return _sum([*hours, *(work.gpu_hours for work in self.shared)])

    def as_dict(self) -> dict[str, Any]:
        """The JSON plan."""
        configs = [cell.config for cell in self.cells]
        names = full_names([(label(config), "", settings(config)) for config in configs])
        rows = [{"name": n} | cell.as_dict() for n, cell in zip(names, self.cells, strict=True)]
        works = [*(cell.work for cell in self.cells), *(work.spending for work in self.shared)]
        seconds = [row["seconds"] for row in rows] + [work.seconds for work in self.shared]
        return {
            "cells": rows,
            "shared": [
                {
                    "title": work.title,
                    "cells": work.cells,
                    "useful_flops": work.spending.useful_flops,
                    "hardware_flops": work.spending.hardware_flops,
                    "seconds": work.seconds,
                    "gpu_hours": work.gpu_hours,
                }
                for work in self.shared
            ],
            "spread": max(map(spread, _by_budget(rows))),
            "total": {
                "cells": len(rows),
                "fits": all(row["fits"] for row in rows),
                "train_useful_flops": sum(row["useful_flops"] for row in rows),
                "train_hardware_flops": sum(row["hardware_flops"] for row in rows),
                "useful_flops": sum(work.useful_flops for work in works),
                "hardware_flops": sum(work.hardware_flops for work in works),
                "seconds": _sum(seconds),
                "gpu_hours": self.gpu_hours,
                "cost": _cost(self.gpu_hours, configs[0]),
                "disk": asdict(self.disk),
            },
        }


def _by_budget(rows: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Useful FLOPs of the cells that are to spend the same."""
    found: dict[float | None, list[int]] = defaultdict(list)
    for row in rows:
        found[row["budget_flops"]].append(row["useful_flops"])
    return list(found.values())


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _cost(hours: float | None, config: Config) -> float | None:
    price = config.site.price
    return None if hours is None or price is None else hours * price
