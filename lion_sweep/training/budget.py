"""From a budget to a number of steps, before anything is loaded; and what those steps cost.

Shapes: S steps, N texts of a micro-batch, L a length.
"""

from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Budget, BudgetKind, Recipe
from lion_sweep.data.lengths import LengthCounts
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
    """Prices training texts of up to `longest` tokens for one cell."""

    def __init__(self, shape: DecoderShape, longest: int, *, sparse: bool, recipe: Recipe) -> None:
        length_L = np.arange(longest + 1)
        self.useful_L = sequence_flops(shape, length_L, sparse=sparse, lora=recipe.lora)
        self.hardware_L = executed_flops(
            shape,
            length_L,
            sparse=sparse,
            lora=recipe.lora,
            gradient_checkpointing=recipe.gradient_checkpointing,
        )

    def micro_batch(self, length_N: NDArray[np.int64], padded: int) -> Spending:
        """What it costs to train on N texts that were padded to `padded` tokens."""
        useful, hardware = self.useful_L[length_N].sum(), len(length_N) * self.hardware_L[padded]
        return Spending(0, int(useful), int(hardware), int(length_N.sum()))

    def steps(self, real_SL: NDArray[np.int64], padded_SL: NDArray[np.int64]) -> Spending:
        """What S steps cost whose texts have these lengths, see `LengthCounts`."""
        # A cell's FLOPs are more than 64 bits hold: Python's integers are exact.
        real_L, padded_L = (count.sum(axis=0).astype(object) for count in (real_SL, padded_SL))
        return Spending(
            len(real_SL),
            int(real_L @ self.useful_L.astype(object)),
            int(padded_L @ self.hardware_L.astype(object)),
            int(real_L @ np.arange(len(real_L))),
        )


def plan(budget: Budget, counts: LengthCounts, meter: Meter) -> Spending:
    """The steps a cell takes: up to the first one whose cumulative useful FLOPs reach the budget.

    Sampling is seeded, so the length of every text is known before training.
    """
    total, epoch, wanted = Spending(), 0, budget.steps
    if budget.kind is BudgetKind.epochs:
        assert budget.epochs is not None
        wanted = max(1, round(budget.epochs * counts.sampler.steps_per_epoch))
    while True:
        real_SL, padded_SL = counts.epoch(epoch)
        if budget.kind is BudgetKind.flops:
            spent_S = total.useful_flops + np.cumsum((real_SL @ meter.useful_L).astype(object))
            if total.steps == 0:
                _require_a_step(budget, int(spent_S[0]))
            taken = int((spent_S < budget.flops).sum()) + 1
        else:
            assert wanted is not None
            taken = wanted - total.steps
        total += meter.steps(real_SL[:taken], padded_SL[:taken])
        if taken <= len(real_SL):
            return total
        epoch += 1


def _require_a_step(budget: Budget, first: int) -> None:
    if budget.flops is not None and first > budget.flops:
        raise UserError(
            f"budget.flops={budget.flops:.3g} is less than one step of {first:.3g} FLOPs: "
            "raise it, or lower loss.batch_size."
        )
