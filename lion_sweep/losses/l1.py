"""The L1 regulariser: the sum of a vector's weights (Zamani et al., SNRM, CIKM 2018)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lion_sweep.losses.flops import FlopsRegulariser


def l1_penalty(vectors_ND: Tensor) -> Tensor:
    """Sum of the magnitudes of a vector, the mean over vectors; a scalar."""
    return vectors_ND.abs().sum(dim=1).mean()


@dataclass
class L1Regulariser(FlopsRegulariser):
    """As `FlopsRegulariser`, by the L1 norm: every active weight costs the same.

    FLOPS costs a term the more, the more texts have it, and leaves rare ones nearly alone.
    """

    kind: ClassVar[str] = "l1"

    def penalty(self, vectors_ND: Tensor) -> Tensor:
        """A scalar."""
        return l1_penalty(vectors_ND)
