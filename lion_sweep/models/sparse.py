"""The sparse encoder: one non-negative weight per vocabulary entry (SPLADE-max on a decoder).

Shapes: B texts, L tokens, D hidden dimensions, V vocabulary entries.
"""

from typing import TYPE_CHECKING

from scipy import sparse
from torch import Tensor

from lion_sweep.models import sparse_head
from lion_sweep.models.encoders import Encoder
from lion_sweep.models.pooling import pooled

if TYPE_CHECKING:  # importing peft and the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone

LEVEL, CENTRE = "level", "centre"  # what the weights call them


class SparseEncoder(Encoder):
    """log(1 + relu(s * (max_t (z - l) - c) - threshold)), the maximum over real tokens.

    s is `logit_scale`, or hidden_size^(-1/4), the study's. The study has no threshold; the proxies
    need one, as an untrained head is active everywhere. The level l of a token and the centre c of
    an entry are 0, or, as much of a decoder's logits is the same for every token and text, what
    adaptation found of them (recipe.adapt.centre, training/centre.py). Without `pool_bos` the token
    that begins a text takes no part: attention gathers at it, and of a decoder its logits may be
    the largest of every text, the same for all. `tied`: logits by the embedding matrix, whatever
    the head is.
    `echo`: only the second copy of a text is pooled, see pooling.py.
    """

    kind = "sparse"
    over_vocabulary = True

    def __init__(
        self,
        backbone: "Backbone",
        threshold: float,
        *,
        logit_scale: float | None = None,
        pool_bos: bool = True,
        tied: bool = False,
        echo: bool = False,
    ) -> None:
        self.backbone, self.threshold, self.logit_scale = backbone, threshold, logit_scale
        self.pool_bos, self.tied, self.echo = pool_bos, tied, echo

    @property
    def reads_bos(self) -> bool:
        """Which tokens are pooled depends on it."""
        return self.echo or not self.pool_bos

    @property
    def head_VD(self) -> Tensor:
        """What logits are made with. Raises `UserError` where they are more than a product."""
        return self.backbone.embeddings_VD if self.tied else self.backbone.head_VD

    @property
    def centre(self) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """(what is taken from every row of the head, so that l is: [D]; c, [V]), if there."""
        added = self.backbone.added
        return (added[LEVEL], added[CENTRE]) if CENTRE in added else (None, None)

    @property
    def scale(self) -> float:
        """Of the logits."""
        return self.logit_scale or float(self.head_VD.shape[1] ** -0.25)

    @property
    def shape(self) -> tuple[int]:
        """The vocabulary."""
        return (int(self.head_VD.shape[0]),)

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, V], in fp32, all >= 0; 0 of a text without a token that is pooled."""
        read = self._read(ids_BL, mask_BL)
        return sparse_head.activations(*read, self.scale, self.threshold, *self.centre)

    def winners(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """The token with the largest logit of every entry, [B, V]; of those that tie, the first."""
        return sparse_head.winners(*self._read(ids_BL, mask_BL))

    def rows(
        self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None
    ) -> sparse.csr_matrix:
        """The same vectors as CSR, without gradients; of each the `largest` weights, if given."""
        read = self._read(ids_BL, mask_BL)
        return sparse_head.rows(*read, self.scale, self.threshold, largest, *self.centre)

    def _read(self, ids_BL: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(states, [B, L, D]; the head, [V, D]; which tokens are pooled, [B, L])."""
        hidden_BLD, bos = self.backbone.hidden_states(ids_BL, mask_BL), self.backbone.bos
        pooled_BL = pooled(ids_BL, mask_BL, bos, begin=self.pool_bos, echo=self.echo)
        return hidden_BLD, self.head_VD, pooled_BL
