"""MarginMSE (Hofstaetter et al., 2020): copy the teacher's margins, not its scores."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from lion_sweep.losses.representations import Representations


@dataclass
class MarginMSE:
    """Squared error between student and teacher margins of the positive over each negative."""

    weight: float
    needs_teacher: ClassVar[bool] = True
    needs_negatives: ClassVar[bool] = True
    reads: ClassVar[str] = "margins"  # of the teacher's scores, see stages/audit.py

    def __call__(self, step: Representations) -> Tensor:
        """Mean over queries and negatives; a scalar."""
        student_BG, teacher_BG = step.group_scores_BG(), step.teacher_scores_BG()
        return F.mse_loss(
            student_BG[:, :1] - student_BG[:, 1:], teacher_BG[:, :1] - teacher_BG[:, 1:]
        )
