"""From a budget to a number of steps, before anything is loaded."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Budget, BudgetKind, Lora
from lion_sweep.data.batches import Sampler, step_lengths
from lion_sweep.errors import UserError
from lion_sweep.ledger import DecoderShape, sequence_flops


@dataclass(frozen=True)
class Spending:
    """Useful FLOPs and real tokens of some optimiser steps."""

    steps: int
    useful_flops: int
    tokens: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a result file."""
        return asdict(self)


class Meter:
    """Prices the steps of one cell."""

    def __init__(
        self,
        shape: DecoderShape,
        query_length_N: NDArray[np.int64],
        passage_length_N: NDArray[np.int64],
        *,
        sparse: bool,
        lora: Lora | None,
    ) -> None:
        def price(length_N: NDArray[np.int64]) -> NDArray[np.int64]:
            by_length = sequence_flops(
                shape, np.arange(int(length_N.max()) + 1), sparse=sparse, lora=lora
            )
            return by_length[length_N]

        self.length_N = (query_length_N, passage_length_N)
        self.flops_N = (price(query_length_N), price(passage_length_N))

    def spend(self, sampler: Sampler, number: int) -> tuple[int, int]:
        """(useful FLOPs, real tokens) of optimiser step `number`."""
        step = sampler.step(number)
        return (
            int(step_lengths(step, *self.flops_N).sum()),
            int(step_lengths(step, *self.length_N).sum()),
        )


def plan(budget: Budget, sampler: Sampler, meter: Meter) -> Spending:
    """The steps a cell may take: up to the first one whose cumulative FLOPs reach the budget.

    Sampling is seeded, so the length of every text is known before training. Of the last two
    candidates the nearer one is taken, which halves the largest deviation from the budget.
    """
    steps, flops, tokens = 0, 0, 0
    while True:
        step_flops, step_tokens = meter.spend(sampler, steps)
        if budget.kind is BudgetKind.steps:
            if steps == budget.steps:
                break
        else:
            assert budget.flops is not None
            if steps == 0 and step_flops > budget.flops:
                raise UserError(
                    f"budget.flops={budget.flops:.3g} is less than one step of "
                    f"{step_flops:.3g} FLOPs: raise it, or lower loss.batch_size."
                )
            if flops + step_flops / 2 > budget.flops:
                break
        steps, flops, tokens = steps + 1, flops + step_flops, tokens + step_tokens
    return Spending(steps, flops, tokens)
