"""The dense encoder: one vector per text.

Shapes: B texts, L tokens, D hidden dimensions.
"""

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from lion_sweep.config.recipe import Normalize, Pooling
from lion_sweep.models.encoders import Encoder
from lion_sweep.models.pooling import pooled

if TYPE_CHECKING:  # importing peft and the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone


class DenseEncoder(Encoder):
    """The mean over real tokens, or the last one's state.

    `normalize=tokens` is the study's: unit token vectors, then their plain mean, so that the score
    is a dot product of vectors shorter than 1. `normalize=mean` scales the mean of the raw states
    to unit length instead (cosine similarity). With `pooling=last` both scale the one state that
    is left. `echo`: only the second copy of a text is pooled, see pooling.py.
    """

    def __init__(
        self, backbone: "Backbone", normalize: str, pooling: str = "mean", *, echo: bool = False
    ) -> None:
        self.backbone, self.normalize = backbone, Normalize(normalize)
        self.pooling, self.echo = Pooling(pooling), echo

    @property
    def reads_bos(self) -> bool:
        """Where the second copy begins depends on it."""
        return self.echo

    @property
    def shape(self) -> tuple[int]:
        """The decoder's width."""
        return (int(self.backbone.language_model.config.hidden_size),)

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, D], in fp32; 0 of a text without a token that is pooled."""
        state_BLD = self.backbone.hidden_states(ids_BL, mask_BL).float()
        if self.normalize is Normalize.tokens:
            state_BLD = F.normalize(state_BLD, dim=-1)
        last, bos = self.pooling is Pooling.last, self.backbone.bos
        pooled_BL = pooled(ids_BL, mask_BL, bos, echo=self.echo, last=last)
        weight_BL1 = pooled_BL.to(state_BLD.dtype)[:, :, None]
        mean_BD = (state_BLD * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1).clamp(min=1)
        return F.normalize(mean_BD, dim=-1) if self.normalize is Normalize.mean else mean_BD
