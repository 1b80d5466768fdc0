"""A sparse variant: the weights of lion_sweep's sparse encoder, louder."""

from typing import Any

from torch import Tensor

from lion_sweep.models.backbone import Backbone
from lion_sweep.models.sparse import SparseEncoder


class Loud(SparseEncoder):
    """Every weight times `volume`."""

    def __init__(self, backbone: Backbone, threshold: float, volume: float) -> None:
        super().__init__(backbone, threshold)
        self.volume = volume

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, V]."""
        return self.volume * super().__call__(ids_BL, mask_BL)

    def rows(self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None) -> Any:
        """The same as CSR."""
        return super().rows(ids_BL, mask_BL, largest) * self.volume
