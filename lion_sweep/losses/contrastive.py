"""InfoNCE with in-batch and hard negatives (van den Oord et al., 2018; Karpukhin et al., 2020)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lion_sweep.losses.representations import Representations


@dataclass
class Contrastive:
    """Cross-entropy of a query's positive among every passage of the step, on all devices."""

    weight: float
    needs_teacher: ClassVar[bool] = False
    needs_negatives: ClassVar[bool] = False

    def __call__(self, step: Representations) -> Tensor:
        """Mean over the queries; a scalar."""
        scores_BC = step.candidate_scores_BC()
        queries, group = step.passage_BGD.shape[:2]
        positive_B = step.offset + group * torch.arange(queries, device=scores_BC.device)
        return F.cross_entropy(scores_BC, positive_B)
