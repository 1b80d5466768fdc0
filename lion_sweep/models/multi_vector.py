"""The multi-vector encoder: one vector per token, compared token by token (late interaction).

Source: Khattab and Zaharia, ColBERT, SIGIR 2020; Santhanam et al., ColBERTv2, NAACL 2022.

Shapes: B texts or queries, L tokens (padded), D hidden dimensions, P dimensions of a vector,
I vectors of a query and J of a passage (padded), G passages of a query, C candidates.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lion_sweep.cost.memory import SIMILARITIES
from lion_sweep.data.marks import ID, SILENT, UNSEEN
from lion_sweep.data.ragged import Ragged
from lion_sweep.models.encoders import Encoder

if TYPE_CHECKING:  # importing peft and the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone

NOTHING = -1.0  # the least similarity of unit vectors: what a passage without any has


class MultiVectorEncoder(Encoder):
    """A linear projection of every real token's last state, scaled to unit length.

    The score of two texts is MaxSim: of each query vector the largest inner product with a vector
    of the passage, summed over the query. Vectors of zeros are padding on both sides. The
    projection starts orthogonal, so that it keeps what angles it can, and trains.
    """

    kind = "multi"
    per_token = True

    def __init__(self, backbone: "Backbone", dimension: int, seed: int) -> None:
        """`seed` draws the projection where the weights bring none."""
        self.backbone = backbone
        width = int(backbone.language_model.config.hidden_size)
        self.projection_PD = backbone.add("projection", lambda: orthogonal(dimension, width, seed))

    @classmethod
    def projected(cls, settings: Mapping[str, Any]) -> int:
        """As many dimensions as a vector has."""
        return int(settings["dimension"])

    @property
    def shape(self) -> tuple[int]:
        """Dimensions of a vector."""
        return (len(self.projection_PD),)

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, L, P], in fp32; of padding, and where none is wanted, zeros.

        What is to know of a token beside its id: see data/marks.py.
        """
        seen_BL, spoken_BL = (mask_BL * (ids_BL & bit == 0) for bit in (UNSEEN, SILENT))
        state_BLD = self.backbone.hidden_states(ids_BL & ID, mask_BL, seen_BL)
        vector_BLP = F.linear(state_BLD.to(self.projection_PD.dtype), self.projection_PD).float()
        return F.normalize(vector_BLP, dim=-1) * spoken_BL.to(vector_BLP.dtype)[:, :, None]

    def rows(self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None) -> Ragged:
        """The same without padding."""
        vector_BLP = self(ids_BL, mask_BL)
        there_BL = present(vector_BLP)
        counts = there_BL.sum(dim=1).cpu().numpy()
        return Ragged.of(vector_BLP[there_BL].cpu().numpy(), counts)

    def group_scores_BG(self, query_BD: Tensor, passage_BGD: Tensor) -> Tensor:
        """Of [B, I, P] queries and [B, G, J, P] passages."""
        query_BIP = trimmed(query_BD)
        similar_BGIJ = torch.einsum("bip,bgjp->bgij", query_BIP, passage_BGD)
        best_BGI = _best(similar_BGIJ, present(passage_BGD)[:, :, None])
        return (best_BGI * present(query_BIP)[:, None]).sum(dim=-1)

    def all_scores_BC(self, query_BD: Tensor, candidate_CD: Tensor) -> Tensor:
        """Of [B, I, P] queries and [C, J, P] candidates.

        So many candidates at once that their similarities take `SIMILARITIES` numbers. Where that
        is not all of them, they are computed again for the gradients, rather than kept.
        """
        query_BIP = trimmed(query_BD)
        each = query_BIP.shape[0] * query_BIP.shape[1] * candidate_CD.shape[1]
        parts = candidate_CD.split(max(1, SIMILARITIES // max(1, each)))
        if len(parts) == 1:
            return max_sim_BC(query_BIP, candidate_CD)
        again = partial(checkpoint, max_sim_BC, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([again(query_BIP, part) for part in parts], dim=1)


def max_sim_BC(query_BIP: Tensor, candidate_CJP: Tensor) -> Tensor:
    """MaxSim of every query and every candidate."""
    similar_BCIJ = torch.einsum("bip,cjp->bcij", query_BIP, candidate_CJP)
    best_BCI = _best(similar_BCIJ, present(candidate_CJP)[None, :, None])
    return (best_BCI * present(query_BIP)[:, None]).sum(dim=-1)


def _best(similar: Tensor, there: Tensor) -> Tensor:
    return similar.masked_fill(~there, NOTHING).amax(dim=-1)


def present(vectors: Tensor) -> Tensor:
    """Which vectors are not padding, in the last dimension of [..., P]."""
    return vectors.detach().ne(0).any(dim=-1)


def trimmed(vectors_BLP: Tensor) -> Tensor:
    """Without the padding that all texts end in: queries are padded to the longest passage."""
    there_L = present(vectors_BLP).any(dim=0)
    last = int((there_L * torch.arange(1, len(there_L) + 1, device=there_L.device)).max())
    return vectors_BLP[:, :last]


def orthogonal(rows: int, columns: int, seed: int) -> Tensor:
    """[rows, columns], orthonormal on the shorter side, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return torch.nn.init.orthogonal_(torch.empty(rows, columns))
