"""The study's way from states to vectors, written anew after what its released code does.

It is the fixed side of several benchmarks. Sparse: all logits in fp32, scaled in place, a copy
with -1e6 where padding is, the maximum over tokens, log(1 + relu) of it. Dense: unit states, then
text by text the mean of the real ones. Padding is on the right here, on the left there.

Shapes: B texts, L tokens (padded), D hidden dimensions, V vocabulary entries.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lion_sweep.models.backbone import Backbone


def head(hidden_BLD: Tensor, weight_VD: Tensor, mask_BL: Tensor, threshold: float = 0.0) -> Tensor:
    """Sparse vectors, [B, V] in fp32. The study has no threshold."""
    logits_BLV = (hidden_BLD @ weight_VD.T).float()
    logits_BLV *= weight_VD.shape[1] ** -0.25
    largest_BV = (logits_BLV + (1 - mask_BL)[:, :, None] * -1e6).max(dim=1).values
    return torch.log(1 + torch.relu(largest_BV - threshold))


@dataclass(frozen=True)
class SparseEncoder:
    """Vectors over the vocabulary."""

    backbone: Backbone
    threshold: float

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """[B, V] in fp32."""
        hidden_BLD = self.backbone.hidden_states(ids_BL, mask_BL)
        return head(hidden_BLD, self.backbone.head_VD, mask_BL, self.threshold)


@dataclass(frozen=True)
class DenseEncoder:
    """Means of unit states."""

    backbone: Backbone

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """[B, D] in fp32."""
        unit_BLD = F.normalize(self.backbone.hidden_states(ids_BL, mask_BL).float(), dim=-1)
        lengths = mask_BL.sum(dim=1).tolist()
        pairs = zip(unit_BLD, lengths, strict=True)
        return torch.stack([unit_LD[:length].mean(dim=0) for unit_LD, length in pairs])


Encoder = SparseEncoder | DenseEncoder
