"""What every encoder is: token ids in, one vector per text out.

Shapes: B texts, L tokens (padded), V vocabulary entries.
"""

from typing import Protocol, runtime_checkable

from scipy import sparse
from torch import Tensor

from lion_sweep.models.backbone import Backbone


class Encoder(Protocol):
    """Anything that turns padded token ids into one vector per text."""

    backbone: Backbone

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, D], in fp32."""
        ...


@runtime_checkable
class RowEncoder(Encoder, Protocol):
    """An encoder of sparse vectors that need not be whole rows at any time."""

    def rows(
        self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None
    ) -> sparse.csr_matrix:
        """The same vectors as CSR, without gradients; of each the `largest` weights, if given."""
        ...
