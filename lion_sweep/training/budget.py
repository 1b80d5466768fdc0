"""From a budget to a number of steps, before anything is loaded."""

from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Budget, BudgetKind, Recipe
from lion_sweep.data.batches import Sampler, micro_batches, step_lengths
from lion_sweep.errors import UserError
from lion_sweep.ledger import DecoderShape, executed_flops, sequence_flops


@dataclass(frozen=True)
class Spending:
    """What some optimiser steps cost; tokens are real ones."""

    steps: int = 0
    useful_flops: int = 0
    hardware_flops: int = 0
    tokens: int = 0

    def __add__(self, other: "Spending") -> "Spending":
        """Both together."""
        return Spending(
            *(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True))
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a result file."""
        return asdict(self)


class Meter:
    """Prices the steps of one cell; `parts` is how many parts a step's texts are encoded in."""

    def __init__(
        self,
        shape: DecoderShape,
        query_length_N: NDArray[np.int64],
        passage_length_N: NDArray[np.int64],
        *,
        sparse: bool,
        recipe: Recipe,
        parts: int,
    ) -> None:
        self.length_N = (query_length_N, passage_length_N)
        longest = max(int(length_N.max()) for length_N in self.length_N)
        lengths, lora = np.arange(longest + 1), recipe.lora
        self.useful_L = sequence_flops(shape, lengths, sparse=sparse, lora=lora)
        self.hardware_L = executed_flops(
            shape,
            lengths,
            sparse=sparse,
            lora=lora,
            gradient_checkpointing=recipe.gradient_checkpointing,
        )
        self.micro_batch_tokens, self.parts = recipe.micro_batch_tokens, parts

    def spend(self, sampler: Sampler, number: int) -> Spending:
        """What optimiser step `number` costs."""
        step, hardware = sampler.step(number), 0
        lengths_N = step_lengths(step, *self.length_N)
        for part in step.split(self.parts):
            part_N = step_lengths(part, *self.length_N)
            for batch in micro_batches(part_N, self.micro_batch_tokens):
                hardware += len(batch) * int(self.hardware_L[part_N[batch].max()])
        useful = int(self.useful_L[lengths_N].sum())
        return Spending(1, useful, hardware, int(lengths_N.sum()))


def plan(budget: Budget, sampler: Sampler, meter: Meter) -> Spending:
    """The steps a cell may take: up to the first one whose cumulative FLOPs reach the budget.

    Sampling is seeded, so the length of every text is known before training. Of the last two
    candidates the nearer one is taken, which halves the largest deviation from the budget.
    """
    total, steps = Spending(), budget.steps
    if budget.kind is BudgetKind.epochs:
        assert budget.epochs is not None
        steps = max(1, round(budget.epochs * sampler.steps_per_epoch))
    while True:
        if budget.kind is not BudgetKind.flops and total.steps == steps:
            return total
        step = meter.spend(sampler, total.steps)
        if budget.kind is BudgetKind.flops:
            assert budget.flops is not None
            if total.steps == 0 and step.useful_flops > budget.flops:
                raise UserError(
                    f"budget.flops={budget.flops:.3g} is less than one step of "
                    f"{step.useful_flops:.3g} FLOPs: raise it, or lower loss.batch_size."
                )
            if total.useful_flops + step.useful_flops / 2 > budget.flops:
                return total
        total += step
