"""What a paradigm is: from token ids to vectors, from two vectors to a score, and what that costs.

Shapes: B texts, L tokens (padded), V vocabulary entries, D dimensions; X is what one text has.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from lion_sweep.losses.representations import InnerProduct

if TYPE_CHECKING:  # importing peft and the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone


class Encoder(InnerProduct, ABC):
    """Base of every paradigm's encoder; `paradigm.encoder` names one, and its settings.

    A subclass gives vectors and their shape. Of texts that have something else than one vector it
    also overrides the scores, and names what its engines search in `kind`.
    """

    kind: ClassVar[str] = "dense"  # of vectors: `engine` says what searches it
    over_vocabulary: ClassVar[bool] = False
    """Whether vectors are made with the head's weight, one number per entry, nearly all of them 0:
    they are kept as CSR, and cost what the head does."""

    backbone: "Backbone"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """X, of one text."""

    @abstractmethod
    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, *X], in fp32."""

    def winners(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor | None:
        """The pooled token, counted from 0, that every weight comes from, [B, *X].

        None where weights come from more than one token.
        """
        return None

    def rows(self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None) -> Any:
        """For collections, without gradients: an array, or CSR of each text's `largest` weights."""
        return self(ids_BL, mask_BL).cpu().numpy()
