"""The FLOPS regulariser (Paria et al., 2020): a smooth stand-in for the cost of a sparse index."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lion_sweep.losses.representations import Representations


def flops_penalty(vectors_ND: Tensor) -> Tensor:
    """Sum over the vocabulary of the squared mean activation; a scalar."""
    return vectors_ND.abs().mean(dim=0).square().sum()


@dataclass
class FlopsRegulariser:
    """Weighted penalties; weights rise quadratically over the first `ramp` of the steps."""

    query_weight: float
    passage_weight: float
    ramp: float
    kind: ClassVar[str] = "flops"  # what its terms are called

    def penalty(self, vectors_ND: Tensor) -> Tensor:
        """Of one side's vectors; a scalar."""
        return flops_penalty(vectors_ND)

    def __call__(self, step: Representations, progress: float) -> dict[str, Tensor]:
        """Named, weighted terms; `progress` is the share of the optimiser steps done, 0 to 1."""
        rise = min(1.0, progress / self.ramp) ** 2 if self.ramp else 1.0
        return {
            f"{self.kind}_query": rise * self.query_weight * self.penalty(step.all_query_QD),
            f"{self.kind}_passage": rise * self.passage_weight * self.penalty(step.candidate_CD),
        }
