"""From a budget to a number of steps, before anything is loaded.

Shapes: S steps of a block, L a length.
"""

import numpy as np

from lion_sweep.config import Budget, BudgetKind
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.errors import UserError

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
    """Refuse a budget of less than the first step, or of so many that it was meant for a model of
    another size."""
    if budget.flops is None:
        return
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
