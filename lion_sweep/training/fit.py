"""What a training takes, before anything is loaded: how many steps, and how it fits its device.

The latter is whole steps or cached gradients, how large their parts are, shards. It changes nothing
of what a step computes, beyond the rounding of sums.

Shapes: S steps of a block, N texts of a step, L a length.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

from lion_sweep.config import Adapt, Budget, BudgetKind, Lora
from lion_sweep.config.site import When
from lion_sweep.cost.memory import Decoder, Memory, mntp_memory, training_memory, weight_bytes
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.batches import Step, micro_batches
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.errors import UserError
from lion_sweep.machine.execution import Execution

# What to try, in this order.
CHOICES = {When.auto: (False, True), When.always: (True,), When.never: (False,)}
MOST_STEPS = 10_000_000  # of a budget: a hundred times as many as any cell of the study takes


def plan(budget: Budget, counts: LengthCounts, meter: Meter) -> Spending:
    """The steps a cell takes: up to the first one whose cumulative useful FLOPs reach the budget.

    Sampling is seeded, so the length of every text is known before training.
    """
    total, wanted = Spending(), budget.steps
    if budget.kind is BudgetKind.epochs:
        assert budget.epochs is not None
        wanted = max(1, round(budget.epochs * counts.sampler.steps_per_epoch))
    if wanted is not None and wanted > MOST_STEPS:
        raise UserError(
            f"The budget is {wanted:,} steps, and more than {MOST_STEPS:,} are refused: "
            f"lower budget.{'epochs' if budget.epochs else 'steps'}."
        )
    for real_SL, padded_SL in counts.blocks():
        if budget.kind is BudgetKind.flops:
            spent_S = total.useful_flops + np.cumsum((real_SL @ meter.useful_L).astype(object))
            if total.steps == 0:
                _require_steps(budget, int(spent_S[0]))
            taken = int((spent_S < budget.flops).sum()) + 1
        else:
            assert wanted is not None
            taken = wanted - total.steps
        total += meter.steps(real_SL[:taken], padded_SL[:taken])
        if taken <= len(real_SL):
            break
    return total


def _require_steps(budget: Budget, first: int) -> None:
    assert budget.flops is not None
    if first > budget.flops:
        raise UserError(
            f"budget.flops={budget.flops:.3g} is less than one step of {first:.3g} FLOPs: "
            "raise it, or lower loss.batch_size."
        )
    if budget.flops > MOST_STEPS * first:
        raise UserError(
            f"budget.flops={budget.flops:.3g} is {budget.flops / first:.2g} steps of {first:.3g} "
            f"FLOPs, and more than {MOST_STEPS:,} are refused: lower it, raise loss.batch_size, "
            "or take a larger model (ladder=full)."
        )


def _shardings(execution: Execution, lora: Lora | None) -> tuple[bool, ...]:
    """What to try: to spread frozen layers over the devices, where there are both, or not to."""
    possible = lora is not None and execution.devices > 1
    if execution.shard is When.always and not possible:
        raise UserError(
            "site.shard=always spreads layers over the devices of a cell, which has one: "
            "set site.devices=2 or more, or site.shard=auto."
        )
    return CHOICES[execution.shard] if possible else CHOICES[When.never]


@dataclass(frozen=True)
class Fit:
    """A training on its devices: what is decided, what it costs, what it needs."""

    decoder: Decoder
    tied: bool
    sparse: bool
    budget: Budget
    least_tokens: int  # that have to fit at once besides a text: a chunk of MNTP
    execution: Execution
    counts: LengthCounts  # of micro-batches that fit
    caches: bool = False  # gradients, rather than keep the graphs of a whole step
    sharded: bool = False  # whether frozen layers are spread over the devices

    def settled(self, counts: Callable[[int], LengthCounts]) -> "Fit":
        """Decide what the device has memory for; `counts` of micro-batches of so many tokens.

        Graphs of a whole step are kept where they fit; with cached gradients, micro-batches are
        halved until one does. Where none does, layers are sharded. If nothing fits it is the last
        of these. Raises `UserError` where sharding is asked for on one device.
        """
        execution, usable, fit = self.execution, self.execution.device.usable_bytes, self
        shardings = _shardings(execution, self.decoder.lora)
        for sharded, caches in product(shardings, CHOICES[execution.gradient_cache]):
            fit = replace(self, sharded=sharded, caches=caches)
            fitting = self.counts.tokens if usable is None else fit.fitting(usable)
            if fitting is not None:
                return replace(fit, counts=counts(fitting))
        return fit

    @property
    def devices(self) -> int:
        return self.execution.devices

    @property
    def weights(self) -> int:
        """Bytes of the whole weights, which encoding loads on every device."""
        return weight_bytes(self.decoder, tied=self.tied)

    @cached_property
    def spending(self) -> Spending:
        """Steps, FLOPs and tokens that the budget buys."""
        return plan(self.budget, self.counts, self.meter)

    @cached_property
    def meter(self) -> Meter:
        shape, lora, longest = self.decoder.shape, self.decoder.lora, self.counts.longest
        return Meter.of_training(shape, longest, sparse=self.sparse, lora=lora, cached=self.caches)

    def _largest_step(self, steps: int) -> int:
        """Of so many, that with the most padded tokens, which needs the most memory."""
        length_L = np.arange(self.counts.longest + 1)
        blocks = range(-(-steps // self.counts.sampler.steps_per_block))
        padded_S = np.concatenate([self.counts.block(block)[1] @ length_L for block in blocks])
        return int(padded_S[:steps].argmax())

    @cached_property
    def memory(self) -> Memory:
        """The most that a device holds at once, in the step with the most padded tokens."""
        return self._memory(self.spending.steps, self.counts.tokens)

    def fitting(self, limit: float) -> int | None:
        """Tokens of micro-batches with which a step takes no more bytes than that.

        The largest halving where gradients are cached; otherwise it saves nothing. None where not
        even one text of the longest fits.
        """
        # Of the first block: what is decided by it holds before the number of steps is known.
        tokens, steps = self.counts.tokens, self.counts.sampler.steps_per_block
        while tokens >= max(self.counts.longest, self.least_tokens):
            if self._memory(steps, tokens).total <= limit:
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
        shardable = self.decoder.lora is not None and self.devices > 1
        return "site.shard=always" if shardable and not self.sharded else None

    def _memory(self, steps: int, tokens: int) -> Memory:
        step = self.counts.sampler.step(self._largest_step(steps))
        tied, sparse, shards = self.tied, self.sparse, self.devices if self.sharded else 1

        def needed(part: Step) -> Memory:
            length_N = self.counts.lengths(part)
            parts = [(len(r), int(length_N[r].max())) for r in micro_batches(length_N, tokens)]
            return training_memory(
                self.decoder, parts, tied=tied, sparse=sparse, cached=self.caches, shards=shards
            )

        return max(map(needed, step.split(self.devices)), key=lambda memory: memory.total)


def fit_chunks(decoder: Decoder, tied: bool, settings: Adapt, how: Execution) -> tuple[int, bool]:
    """(chunks of MNTP in work at once on a device, whether layers are sharded), as `Fit.settled`.

    Raises `UserError` where the chunks of a step do not divide over the devices.
    """
    if settings.batch_size % how.devices:
        raise UserError(
            f"recipe.adapt.batch_size={settings.batch_size} does not divide into "
            f"{how.devices} parts (one per device): choose a multiple."
        )
    chunk, usable = settings.chunk, how.device.usable_bytes
    for sharded in _shardings(how, decoder.lora):
        shards = how.devices if sharded else 1
        rows = max(1, how.micro_batch_tokens // chunk)
        while rows:
            predicted = round(rows * chunk * settings.mask_probability)
            memory = mntp_memory(
                decoder, (rows, chunk), predicted=predicted, tied=tied, shards=shards
            )
            if usable is None or memory.total <= usable:
                return rows, sharded
            rows //= 2
    return 1, sharded
