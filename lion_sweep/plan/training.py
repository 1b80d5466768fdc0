"""What the training of a cell will take, before anything is loaded.

Shapes: S steps of a block, N texts of a step, L a length.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from lion_sweep import stage
from lion_sweep.blueprint import Blueprint
from lion_sweep.config import Config, plain
from lion_sweep.config_site import SiteName, When
from lion_sweep.data import tokens
from lion_sweep.data.batches import Sampler, micro_batches
from lion_sweep.data.groups import Groups
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.devices import Device
from lion_sweep.errors import UserError
from lion_sweep.memory import Decoder, Memory, training_memory, weight_bytes
from lion_sweep.meter import Meter, Spending
from lion_sweep.progress import duration
from lion_sweep.site import precision
from lion_sweep.training.budget import plan

CALIBRATION = "calibrate"
# What to try, in this order.
CHOICES = {When.auto: (False, True), When.always: (True,), When.never: (False,)}


def sampler(config: Config, groups: Path) -> Sampler:
    """The cell's sequence of steps, out of a file of groups."""
    return _sampler(groups, config.loss.batch_size, config.loss.negatives, config.seed)


@lru_cache(maxsize=8)
def _sampler(groups: Path, batch_size: int, negatives: int, seed: int) -> Sampler:
    return Sampler(_groups(groups), batch_size, negatives, seed)


@lru_cache(maxsize=4)
def _groups(path: Path) -> Groups:
    return Groups.load(path)


@lru_cache(maxsize=32)  # the cells of a grid share their steps
def _length_counts(
    folders: tuple[Path, Path],
    sampler: Sampler,
    lengths: tuple[int, int],
    micro_batch_tokens: int,
    parts: int,
) -> LengthCounts:
    query_N, passage_N = (
        tokens.read(folder).lengths(length) for folder, length in zip(folders, lengths, strict=True)
    )
    return LengthCounts(
        sampler,
        query_N,
        passage_N,
        micro_batch_tokens=micro_batch_tokens,
        parts=parts,
    )


@dataclass(frozen=True)
class TrainingPlan:
    """A cell's training: the lengths of its texts, what they cost, how many steps are taken."""

    config: Config
    blueprint: Blueprint
    device: Device
    devices: int
    counts: LengthCounts  # of micro-batches that fit
    caches: bool  # gradients, rather than keep the graphs of a whole step
    sharded: bool = False  # whether frozen layers are spread over the devices

    @classmethod
    def of(
        cls, config: Config, blueprint: Blueprint, groups: Path, device: Device, devices: int
    ) -> "TrainingPlan":
        """`groups` is the file of training groups."""
        lengths = config.recipe.lengths

        def counts(tokens: int) -> LengthCounts:
            return _length_counts(
                (blueprint.queries, blueprint.passages),
                sampler(config, groups),
                (lengths.query, lengths.passage),
                tokens,
                devices,
            )

        return cls.settled(config, blueprint, device, devices, counts)

    @classmethod
    def settled(
        cls,
        config: Config,
        blueprint: Blueprint,
        device: Device,
        devices: int,
        counts: Callable[[int], LengthCounts],
    ) -> "TrainingPlan":
        """Decide what the device has memory for; `counts` of micro-batches of so many tokens.

        Graphs of a whole step are kept where they fit; with cached gradients, micro-batches are
        halved until one does. Where none does, layers are sharded. If nothing fits it is the last
        of these. Raises `UserError` where sharding is asked for on one device.
        """
        tokens, usable = config.recipe.micro_batch_tokens, device.usable_bytes
        plan = cls(config, blueprint, device, devices, counts(tokens), caches=False)
        if config.site.shard is When.always and not plan.shardable:
            raise UserError(
                "site.shard=always spreads layers over the devices of a cell, which has one: "
                "set site.devices=2 or more, or site.shard=auto."
            )
        shard = config.site.shard if plan.shardable else When.never
        for sharded, caches in product(CHOICES[shard], CHOICES[config.recipe.gradient_cache]):
            plan = replace(plan, sharded=sharded, caches=caches)
            fitting = tokens if usable is None else plan.fitting(usable)
            if fitting is not None:
                return replace(plan, counts=counts(fitting))
        return plan

    @property
    def shardable(self) -> bool:
        """Whether there are frozen layers, and devices to spread them over."""
        return self.config.recipe.lora is not None and self.devices > 1

    @cached_property
    def spending(self) -> Spending:
        """Steps, FLOPs and tokens that the budget buys."""
        return plan(self.config.budget, self.counts, self.meter)

    @cached_property
    def meter(self) -> Meter:
        """Prices of the texts of a step."""
        return Meter.of_training(
            self.blueprint.shape,
            self.counts.longest,
            sparse=self.config.paradigm.name == "sparse",
            lora=self.config.recipe.lora,
            cached=self.caches,
        )

    @property
    def epochs(self) -> float:
        """Passes over the training pairs."""
        return self.spending.steps / self.counts.sampler.steps_per_epoch

    @property
    def bf16(self) -> bool:
        """Whether the forward pass is in bf16 on the planned device."""
        site = SiteName.gpu if self.device.gpu else SiteName.laptop
        return precision(self.config.recipe.precision, site, planned=True) == "bf16"

    def _largest_step(self, steps: int) -> int:
        """Of so many, that with the most padded tokens, which needs the most memory."""
        length_L, largest, found, first = np.arange(self.counts.longest + 1), -1, 0, 0
        for block in range(-(-steps // self.counts.sampler.steps_per_block)):
            padded_S = self.counts.block(block)[1] @ length_L
            padded_S = padded_S[: steps - first]
            if padded_S.max() > largest:
                largest, found = int(padded_S.max()), first + int(padded_S.argmax())
            first += len(padded_S)
        return found

    @property
    def _first(self) -> int:
        """Steps of the first block: what is decided by them holds before their number is known."""
        return self.counts.sampler.steps_per_block

    @cached_property
    def memory(self) -> Memory:
        """The most that a device holds at once, in the step with the most padded tokens."""
        return self._memory(self.spending.steps, self.counts.tokens)

    @property
    def weights(self) -> int:
        """Bytes of the whole weights, which encoding loads on every device."""
        decoder = Decoder(self.blueprint.shape, self.config.recipe.lora, self.bf16)
        return weight_bytes(decoder, tied=self.blueprint.tied)

    def fitting(self, limit: float) -> int | None:
        """Tokens of micro-batches with which a step takes no more bytes than that.

        The largest halving where gradients are cached; otherwise it saves nothing. None where not
        even one text of the longest fits, or one chunk of MNTP, which takes as many at least.
        """
        tokens, adapt = self.counts.tokens, self.config.recipe.adapt
        while tokens >= max(self.counts.longest, adapt.chunk if adapt.steps else 0):
            if self._memory(self._first, tokens).total <= limit:
                return tokens
            if not self.caches:
                return None
            tokens //= 2
        return None

    def lighter(self) -> str | None:
        """The overrides with which a step that ran out of memory takes clearly less, or None."""
        if not self.caches:
            return "recipe.gradient_cache=always"
        if tokens := self.fitting(0.8 * self.memory.total):
            return f"recipe.micro_batch_tokens={tokens}"
        return "site.shard=always" if self.shardable and not self.sharded else None

    def _memory(self, steps: int, tokens: int) -> Memory:
        step = self.counts.sampler.step(self._largest_step(steps))
        parts = (self.counts.lengths(part) for part in step.split(self.devices))
        return max(
            (
                training_memory(
                    self.blueprint.shape,
                    [
                        (len(rows), int(length_N[rows].max()))
                        for rows in micro_batches(length_N, tokens)
                    ],
                    tied=self.blueprint.tied,
                    sparse=self.config.paradigm.name == "sparse",
                    lora=self.config.recipe.lora,
                    bf16=self.bf16,
                    cached=self.caches,
                    shards=self.devices if self.sharded else 1,
                )
                for length_N in parts
            ),
            key=lambda memory: memory.total,
        )

    def calibration(self) -> dict[str, Any]:
        """What a measured step time holds for: all that changes what a step computes, and where."""
        config = self.config
        recipe = plain(asdict(config.recipe))
        kept = ("lengths", "precision", "lora")
        return {
            "source": Path(self.blueprint.source).name,
            "tokens": [self.blueprint.queries.name, self.blueprint.passages.name],
            "paradigm": config.paradigm.name,
            "loss": plain(asdict(config.loss)),
            "recipe": {key: recipe[key] for key in kept},
            "micro_batch_tokens": self.counts.tokens,
            "rows_train": bool(config.recipe.embedding_rate),
            "cached": self.caches,
            "sharded": self.sharded,
            "compile": config.site.compile,
            "device": self.device.name,
            "devices": self.devices,
        }

    @cached_property
    def measured(self) -> stage.Stage | None:
        """The finished calibration, or None."""
        return stage.find(Path(self.config.paths.root), CALIBRATION, self.calibration())

    @cached_property
    def rate(self) -> float | None:
        """FLOP/s of the hardware on one device: measured, or a share of the published peak."""
        if self.measured:
            return float(self.measured.facts["rate"])
        peak = self.device.peak_flops
        return None if peak is None else peak * self.config.site.efficiency

    def seconds(self, work: Spending) -> float | None:
        """Wall-clock time of some work on all devices of the cell."""
        return None if self.rate is None else work.hardware_flops / self.rate / self.devices

    def gpu_hours(self, work: Spending) -> float | None:
        """The same in hours of one GPU; None on a machine without."""
        seconds = self.seconds(work)
        return None if seconds is None or not self.device.gpu else seconds * self.devices / 3600


def settle(training: TrainingPlan) -> None:
    """Give a budget of GPU-hours its number of steps, in place."""
    budget = training.config.budget
    assert budget.gpu_hours is not None
    if training.measured is None:
        raise UserError(
            f"budget.gpu_hours={budget.gpu_hours:g} needs a measured step time on "
            f"{training.device.name}, and there is none: give the same overrides to "
            "python -m lion_sweep.plan --calibrate first."
        )
    _, padded_SL = training.counts.block(0)
    flops = float((padded_SL @ training.meter.hardware_L).mean())  # of a step
    seconds = flops / training.measured.facts["rate"] / training.devices
    budget.steps = int(budget.gpu_hours * 3600 / training.devices / seconds)
    if budget.steps == 0:
        raise UserError(
            f"budget.gpu_hours={budget.gpu_hours:g} is less than one step of "
            f"{duration(seconds)} on {training.devices} x {training.device.name}: "
            "raise it, or lower loss.batch_size."
        )
