"""The FLOPS regulariser (Paria et al., 2020): a smooth stand-in for the cost of a sparse index.

Shapes: N vectors, D dimensions; a step's Q queries and C passages are in their order, so that a
pool of so many queries beside each other has their passages beside each other too.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lion_sweep.losses.gathering import gathered_over
from lion_sweep.losses.representations import Representations


def flops_penalty(vectors_ND: Tensor) -> Tensor:
    """Sum over the vocabulary of the squared mean activation; a scalar."""
    return vectors_ND.abs().mean(dim=0).square().sum()


@dataclass
class FlopsRegulariser:
    """Weighted FLOPS penalties; weights rise quadratically over the first `ramp` of the steps.

    Activations have their mean over a whole step, on all devices, or over each `pool` of so many
    queries, whose penalties then have theirs; `apart`: over positives and negatives each, likewise.
    With `micro_batches` the rise goes on with every one of so many in a step, while `ramp` goes on
    counting steps: it ends so many times sooner. `devices` divides gradients (gathering.py).
    """

    query_weight: float
    passage_weight: float
    ramp: float
    pool: int | None = None
    apart: bool = False
    micro_batches: int = 1
    devices: int = 1
    kind: ClassVar[str] = "flops"  # what its terms are called

    def penalty(self, vectors_ND: Tensor) -> Tensor:
        """Of one side's vectors; a scalar."""
        return flops_penalty(vectors_ND)

    def __call__(self, step: Representations, progress: float) -> dict[str, Tensor]:
        """Named, weighted terms; `progress` is the share of the optimiser steps done, 0 to 1."""
        rise = min(1.0, self.micro_batches * progress / self.ramp) ** 2 if self.ramp else 1.0
        queries = self._pooled([step.all_query_QD], len(step.all_query_QD))
        passages = self._pooled(self._sides(step), len(step.all_query_QD))
        sides = {"query": (self.query_weight, queries), "passage": (self.passage_weight, passages)}
        return {
            f"{self.kind}_{side}": gathered_over(rise * weight * penalty, self.devices)
            for side, (weight, penalty) in sides.items()
        }

    def _sides(self, step: Representations) -> list[Tensor]:
        """The passages, [N, D]; positives and negatives apart where that is asked for."""
        if not self.apart:
            return [step.candidate_CD]
        passage_QGD = step.candidate_CD.unflatten(0, (-1, step.passage_BGD.shape[1]))
        return [passage_QGD[:, 0], passage_QGD[:, 1:].flatten(0, 1)]

    def _pooled(self, sides: list[Tensor], queries: int) -> Tensor:
        """Mean over all pools of all sides, each of which has its share of every pool."""
        pools = queries // (self.pool or queries)
        parts = [part for side_ND in sides for part in side_ND.chunk(pools)]
        return torch.stack([self.penalty(part) for part in parts]).mean()
