"""Listwise distillation: the student's softmax over a query's passages follows the teacher's."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from lion_sweep.errors import UserError
from lion_sweep.losses.representations import Representations


@dataclass
class ListwiseKL:
    """KL(teacher || student) over the query's own passages, the positive among them.

    Temperatures divide scores before each softmax, the student's beside the temperature that the
    paradigm has for all losses. Nothing is multiplied by their squares (as Hinton et al., 2015,
    do). Raises `UserError` where one is not above 0.
    """

    weight: float
    student_temperature: float = 1.0
    teacher_temperature: float = 1.0
    needs_teacher: ClassVar[bool] = True
    needs_negatives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("student_temperature", "teacher_temperature"):
            if not (value := getattr(self, name)) > 0:
                raise UserError(f"{name}={value} must be greater than 0.")

    def __call__(self, step: Representations) -> Tensor:
        """Mean over the queries; a scalar, in nats."""
        return F.kl_div(
            F.log_softmax(step.group_scores_BG() / self.student_temperature, dim=-1),
            F.log_softmax(step.teacher_scores_BG() / self.teacher_temperature, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
