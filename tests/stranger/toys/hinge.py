"""A loss: a query's positive has to score higher than its negatives by a margin."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lion_sweep.losses.representations import Representations


@dataclass
class Hinge:
    """What the margin lacks, on average."""

    weight: float
    margin: float
    needs_teacher: ClassVar[bool] = False
    needs_negatives: ClassVar[bool] = True

    def __call__(self, step: Representations) -> Tensor:
        """Mean over queries and negatives; a scalar."""
        scores_BG = step.group_scores_BG()
        return (self.margin - scores_BG[:, :1] + scores_BG[:, 1:]).clamp(min=0).mean()
