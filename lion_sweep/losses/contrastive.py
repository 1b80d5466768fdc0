"""InfoNCE with in-batch and hard negatives (van den Oord et al., 2018; Karpukhin et al., 2020)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lion_sweep.losses.gathering import gathered_over
from lion_sweep.losses.representations import Representations


@dataclass
class Contrastive:
    """Cross-entropy of a query's positive among its candidates.

    Those are all passages of the step, on all devices, or, with `candidates`, so many of them: its
    own and those of queries beside it. That is a choice of statistics, whatever fits a device.
    `devices` divides the gradient (gathering.py). With a `false_negative_margin`, a query's own
    negatives whose teacher score is above its positive's less the margin are no candidates of it
    (Qu et al., 2021, drop theirs by a teacher too); its unit is that of the scaled teacher scores.
    """

    weight: float
    candidates: int | None = None
    devices: int = 1
    false_negative_margin: float | None = None

    @property
    def needs_teacher(self) -> bool:
        """Whether negatives are left out by the teacher's scores."""
        return self.false_negative_margin is not None

    @property
    def needs_negatives(self) -> bool:
        """The same: without negatives a margin would do nothing."""
        return self.false_negative_margin is not None

    def __call__(self, step: Representations) -> Tensor:
        """Mean over the queries; a scalar, in nats."""
        scores_BC = step.candidate_scores_BC()
        queries, group = step.passage_BGD.shape[:2]
        positive_B = step.offset + group * torch.arange(queries, device=scores_BC.device)
        if self.candidates is not None:
            pool_C = torch.arange(scores_BC.shape[1], device=scores_BC.device) // self.candidates
            others_BC = pool_C[None, :] != pool_C[positive_B, None]
            scores_BC = scores_BC.masked_fill(others_BC, float("-inf"))
        if self.false_negative_margin is not None:
            teacher_BG = step.teacher_scores_BG()
            false_BG = teacher_BG > teacher_BG[:, :1] - self.false_negative_margin
            false_BG[:, 0] = False  # the positive itself
            column_BG = positive_B[:, None] + torch.arange(group, device=scores_BC.device)
            false_BC = torch.zeros_like(scores_BC, dtype=torch.bool)
            false_BC = false_BC.scatter(1, column_BG, false_BG)
            scores_BC = scores_BC.masked_fill(false_BC, float("-inf"))
        return gathered_over(F.cross_entropy(scores_BC, positive_B), self.devices)
