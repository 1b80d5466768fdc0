"""A paradigm: two vectors per text, its mean and its last token; a score is the best pair's.

Shapes: B queries, G passages of a query, C candidates, D dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lion_sweep.models.backbone import Backbone
from lion_sweep.models.encoders import Encoder


class TwoVectors(Encoder):
    """[B, 2, D] of a text."""

    kind = "two"

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @property
    def shape(self) -> tuple[int, int]:
        """Two vectors of the decoder's width."""
        return 2, int(self.backbone.language_model.config.hidden_size)

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Both of unit length."""
        state_BLD = self.backbone.hidden_states(ids_BL, mask_BL).float()
        weight_BL1 = mask_BL.to(state_BLD.dtype)[:, :, None]
        mean_BD = (state_BLD * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1)
        last_B = (mask_BL * torch.arange(mask_BL.shape[1], device=mask_BL.device)).argmax(dim=1)
        last_BD = state_BLD[torch.arange(len(last_B), device=last_B.device), last_B]
        return F.normalize(torch.stack([mean_BD, last_BD], dim=1), dim=-1)

    def group_scores_BG(self, query_BX: Tensor, passage_BGX: Tensor) -> Tensor:
        """The best of four inner products."""
        return torch.einsum("bid,bgjd->bgij", query_BX, passage_BGX).amax(dim=(2, 3))

    def all_scores_BC(self, query_BX: Tensor, candidate_CX: Tensor) -> Tensor:
        """The same against every candidate."""
        return torch.einsum("bid,cjd->bcij", query_BX, candidate_CX).amax(dim=(2, 3))
