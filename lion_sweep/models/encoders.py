"""What a paradigm is: from token ids to vectors, from two vectors to a score, and what that costs.

Shapes: B texts, L tokens (padded), V vocabulary entries, D dimensions; X is what one text has.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from lion_sweep.losses.representations import InnerProduct

if TYPE_CHECKING:  # importing peft and the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone

QUERIES, PASSAGES = "queries", "passages"  # what a text is to a search


class Encoder(InnerProduct, ABC):
    """Base of every paradigm's encoder; `paradigm.encoder` names one, and its settings.

    A subclass gives vectors and their shape. Of texts that have something else than one vector it
    also overrides the scores, and names what its engines search in `kind`.
    """

    kind: ClassVar[str] = "dense"  # of vectors: `engine` says what searches it
    over_vocabulary: ClassVar[bool] = False
    """Whether vectors are made with the head's weight, one number per entry, nearly all of them 0:
    they are kept as CSR, and cost what the head does."""
    per_token: ClassVar[bool] = False
    """Whether a text has a vector per token, [L, *shape], of zeros where it has none: texts that
    are compared are padded with these to the longest, and kept without them, as `Ragged`."""

    backbone: "Backbone"

    @classmethod
    def projected(cls, settings: Mapping[str, Any]) -> int:
        """Outputs of a linear layer of its own on the state of every token, which trains; 0: none.

        `settings` are those of `paradigm.encoder`; it is asked before there is an encoder.
        """
        return 0

    @property
    def reads_bos(self) -> bool:
        """Whether vectors depend on which token begins a text."""
        return False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """X, of one text; of one token where `per_token`."""

    @abstractmethod
    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, *X], in fp32; where `per_token` [B, L, *X]."""

    def winners(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor | None:
        """The pooled token, counted from 0, that every weight comes from, [B, *X].

        None where weights come from more than one token.
        """
        return None

    def rows(self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None) -> Any:
        """For collections, without gradients: an array, or CSR of each text's `largest` weights,
        or `Ragged`."""
        return self(ids_BL, mask_BL).cpu().numpy()

    def finished(self, vectors_BX: Tensor, what: str) -> Tensor:
        """Vectors as those of `queries` or of `passages`, where a paradigm tells them apart."""
        return vectors_BX

    @classmethod
    def most_terms(cls, what: str, settings: Mapping[str, Any]) -> int | None:
        """The largest weights that vectors of `queries` or `passages` keep; None: all.

        `settings` are those of `paradigm.encoder`. What is asked of `rows` follows from it, as
        `finished` does for training.
        """
        return None
