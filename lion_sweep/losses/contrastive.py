"""InfoNCE with in-batch and hard negatives (van den Oord et al., 2018; Karpukhin et al., 2020)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lion_sweep.losses.representations import Representations


@dataclass
class Contrastive:
    """Cross-entropy of a query's positive among its candidates.

    Those are all passages of the step, on all devices, or, with `candidates`, so many of them: its
    own and those of queries beside it. That is a choice of statistics, whatever fits a device.
    """

    weight: float
    candidates: int | None = None
    needs_teacher: ClassVar[bool] = False
    needs_negatives: ClassVar[bool] = False

    def __call__(self, step: Representations) -> Tensor:
        """Mean over the queries; a scalar."""
        scores_BC = step.candidate_scores_BC()
        queries, group = step.passage_BGD.shape[:2]
        positive_B = step.offset + group * torch.arange(queries, device=scores_BC.device)
        if self.candidates is not None:
            pool_C = torch.arange(scores_BC.shape[1], device=scores_BC.device) // self.candidates
            others_BC = pool_C[None, :] != pool_C[positive_B, None]
            scores_BC = scores_BC.masked_fill(others_BC, float("-inf"))
        return F.cross_entropy(scores_BC, positive_B)
