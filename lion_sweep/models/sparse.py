"""The sparse encoder: one non-negative weight per vocabulary entry (SPLADE-max on a decoder).

Shapes: B texts, L tokens, V vocabulary entries.
"""

from typing import TYPE_CHECKING

from scipy import sparse
from torch import Tensor

from lion_sweep.models import sparse_head
from lion_sweep.models.encoders import Encoder

if TYPE_CHECKING:  # importing peft and the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone


class SparseEncoder(Encoder):
    """log(1 + relu(s * max_t z - threshold)) with s = hidden_size^(-1/4), the study's logit scale.

    The study has no threshold; the proxies need one, as an untrained head is active everywhere.
    """

    kind = "sparse"
    over_vocabulary = True

    def __init__(self, backbone: "Backbone", threshold: float) -> None:
        self.backbone, self.threshold = backbone, threshold

    @property
    def scale(self) -> float:
        """Of the logits."""
        return float(self.backbone.head_VD.shape[1] ** -0.25)

    @property
    def shape(self) -> tuple[int]:
        """The vocabulary."""
        return (int(self.backbone.head_VD.shape[0]),)

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, V], in fp32, all >= 0."""
        hidden_BLD, head_VD = self.backbone.hidden_states(ids_BL, mask_BL), self.backbone.head_VD
        return sparse_head.activations(hidden_BLD, head_VD, mask_BL, self.scale, self.threshold)

    def winners(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """The token with the largest logit of every entry, [B, V]; of those that tie, the first."""
        hidden_BLD, head_VD = self.backbone.hidden_states(ids_BL, mask_BL), self.backbone.head_VD
        return sparse_head.winners(hidden_BLD, head_VD, mask_BL)

    def rows(
        self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None
    ) -> sparse.csr_matrix:
        """The same vectors as CSR, without gradients; of each the `largest` weights, if given."""
        hidden_BLD, head_VD = self.backbone.hidden_states(ids_BL, mask_BL), self.backbone.head_VD
        return sparse_head.rows(hidden_BLD, head_VD, mask_BL, self.scale, self.threshold, largest)
