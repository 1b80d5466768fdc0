"""Listwise distillation: the student's softmax over a query's passages follows the teacher's."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from lion_sweep.losses.representations import Representations


@dataclass
class ListwiseKL:
    """KL(teacher || student) over the query's own passages, the positive among them."""

    weight: float
    needs_teacher: ClassVar[bool] = True
    needs_negatives: ClassVar[bool] = True
    reads: ClassVar[str] = "softmax"  # of the teacher's scores, see stages/audit.py

    def __call__(self, step: Representations) -> Tensor:
        """Mean over the queries; a scalar, in nats."""
        return F.kl_div(
            F.log_softmax(step.group_scores_BG(), dim=-1),
            F.log_softmax(step.teacher_scores_BG(), dim=-1),
            reduction="batchmean",
            log_target=True,
        )
