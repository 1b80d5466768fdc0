"""The dense encoder: one vector per text.

Shapes: B texts, L tokens, D hidden dimensions.
"""

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from lion_sweep.config.recipe import Normalize
from lion_sweep.models.encoders import Encoder

if TYPE_CHECKING:  # importing peft and the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone


class DenseEncoder(Encoder):
    """Mean pooling over real tokens.

    `normalize=tokens` is the study's pooling: unit token vectors, then their plain mean, so that
    the score is a dot product of vectors shorter than 1. `normalize=mean` scales the mean of the
    raw states to unit length instead (cosine similarity).
    """

    def __init__(self, backbone: "Backbone", normalize: str) -> None:
        self.backbone, self.normalize = backbone, Normalize(normalize)

    @property
    def shape(self) -> tuple[int]:
        """The decoder's width."""
        return (int(self.backbone.language_model.config.hidden_size),)

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, D], in fp32."""
        state_BLD = self.backbone.hidden_states(ids_BL, mask_BL).float()
        if self.normalize is Normalize.tokens:
            state_BLD = F.normalize(state_BLD, dim=-1)
        weight_BL1 = mask_BL.to(state_BLD.dtype)[:, :, None]
        mean_BD = (state_BLD * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1)
        return F.normalize(mean_BD, dim=-1) if self.normalize is Normalize.mean else mean_BD
