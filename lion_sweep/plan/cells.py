"""The rows of a plan: what every cell takes, what cells share, and whether it fits."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from lion_sweep.cell.names import axes, full_names, label, settings
from lion_sweep.config import Config, LadderName
from lion_sweep.config.site import When
from lion_sweep.cost.meter import Spending
from lion_sweep.machine.progress import duration
from lion_sweep.plan.training import TrainingPlan
from lion_sweep.training.fit import Fit


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
    """One row of a plan."""

    training: TrainingPlan
    encoding: Spending

    @property
    def work(self) -> Spending:
        """Training, and encoding what the trained cell is scored on."""
        return self.training.fit.spending + self.encoding

    @cached_property
    def obstacles(self) -> list[str]:
        """Why it cannot run on its site, with the nearest setting that can; empty where it can."""
        config, fit, found = self.training.config, self.training.fit, []
        device, weights = fit.execution.device, fit.weights
        full = config.ladder is LadderName.full and config.model.backbone is None
        if full and not device.gpu:
            found.append("needs a GPU: site.device=h200, say, or ladder=proxy")
        needed, limit = fit.memory.total, device.usable_bytes
        if limit is not None and weights > limit:
            found.append(
                f"has weights of {weights / 2**30:.1f} GiB, which encoding holds whole on "
                f"every {device.name} of {limit / 2**30:.1f}: take a larger device"
            )
        elif limit is not None and needed > limit:
            found.append(
                f"needs {needed / 2**30:.1f} GiB of {device.name}'s {limit / 2**30:.1f}: "
                f"{_fitting(config, fit, limit)}"
            )
        hours, seconds = config.site.time_limit, self.longest_job
        if hours is not None and seconds is not None and seconds > hours * 3600:
            found.append(
                f"takes {duration(seconds)} of site.time_limit={hours:g} hours: raise it, add "
                "site.devices or site.encode_jobs, or lower the budget"
            )
        return found

    @property
    def longest_job(self) -> float | None:
        """Seconds of the cell's one job; with encoding jobs, of training or a share of encoding."""
        jobs = self.training.config.site.encode_jobs
        train = self.training.seconds(self.training.fit.spending)
        encode = self.training.seconds(self.encoding)
        if jobs == 1 or train is None or encode is None:
            return self.training.seconds(self.work)
        return max(train, encode / jobs)

    def as_dict(self) -> dict[str, Any]:
        """The row of the JSON plan: FLOPs, bytes, seconds; null is unknown."""
        training, config, fit = self.training, self.training.config, self.training.fit
        spending, memory, blueprint = fit.spending, fit.memory, training.stages.blueprint
        seconds, hours = training.seconds(spending), training.gpu_hours(self.work)
        budget, measured = config.budget.flops, training.measured
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
            "memory_bytes": memory.total,
            "memory": asdict(memory),
            "memory_measured_bytes": measured.facts["peak_memory"] if measured else None,
            "device": fit.execution.device.name,
            "devices": fit.devices,
            "sharded": fit.sharded,
            "step_seconds": None if seconds is None else seconds / spending.steps,
            "train_seconds": seconds,
            "seconds": training.seconds(self.work),
            "gpu_hours": hours,
            "cost": _cost(hours, config),
            "time_from": "measured" if measured else assumed if training.rate else None,
            "fits": not self.obstacles,
            "obstacles": self.obstacles,
            "estimate": blueprint.estimate or None,
        }


@dataclass(frozen=True)
class SharedWork:
    """What is done once for several cells: adapting a size, encoding it untrained, the teacher."""

    title: str
    spending: Spending
    seconds: float | None
    gpu_hours: float | None
    cells: int

    def as_dict(self) -> dict[str, Any]:
        """The row of the JSON plan."""
        return {
            "title": self.title,
            "cells": self.cells,
            "useful_flops": self.spending.useful_flops,
            "hardware_flops": self.spending.hardware_flops,
            "seconds": self.seconds,
            "gpu_hours": self.gpu_hours,
        }


def spread(useful_flops: Sequence[int]) -> float:
    """Share by which the most costly cell exceeds the least costly one."""
    return max(useful_flops) / min(useful_flops) - 1


@dataclass(frozen=True)
class GridPlan:
    """All cells of one command."""

    cells: list[CellPlan]
    shared: list[SharedWork]

    @property
    def gpu_hours(self) -> float | None:
        """Of everything; None where a step's time cannot be told, or nothing runs on a GPU."""
        hours = [cell.training.gpu_hours(cell.work) for cell in self.cells]
        return _sum([*hours, *(work.gpu_hours for work in self.shared)])

    def as_dict(self) -> dict[str, Any]:
        """The JSON plan."""
        configs = [cell.training.config for cell in self.cells]
        names = full_names([(label(config), "", settings(config)) for config in configs])
        rows = [{"name": n} | cell.as_dict() for n, cell in zip(names, self.cells, strict=True)]
        works = [*(cell.work for cell in self.cells), *(work.spending for work in self.shared)]
        seconds = [row["seconds"] for row in rows] + [work.seconds for work in self.shared]
        return {
            "cells": rows,
            "shared": [work.as_dict() for work in self.shared],
            "spread": spread([row["useful_flops"] for row in rows]),
            "total": {
                "cells": len(rows),
                "fits": all(row["fits"] for row in rows),
                "train_useful_flops": sum(row["useful_flops"] for row in rows),
                "train_hardware_flops": sum(row["hardware_flops"] for row in rows),
                "useful_flops": sum(work.useful_flops for work in works),
                "hardware_flops": sum(work.hardware_flops for work in works),
                "seconds": _sum(seconds),
                "gpu_hours": self.gpu_hours,
                "cost": _cost(self.gpu_hours, self.cells[0].training.config),
            },
        }


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _cost(hours: float | None, config: Config) -> float | None:
    price = config.site.price
    return None if hours is None or price is None else hours * price
