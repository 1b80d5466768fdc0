"""A sparse encoder whose vectors keep few weights: k of a query, another k of a passage.

Source: the operating points 40/400 and 10/100 are SPLARE's; training with them, as here, is what
its authors compare FLOPS with. Shapes: B texts, V vocabulary entries.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.models.largest import largest
from lion_sweep.models.sparse import SparseEncoder

if TYPE_CHECKING:  # importing peft and the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone

KEYS = {QUERIES: "query_terms", PASSAGES: "passage_terms"}


class TopKSparseEncoder(SparseEncoder):
    """`SparseEncoder` with the largest weights alone, of equal ones those of lower entries.

    In training the gradient passes through the weights that are kept; collections are encoded
    with as many.
    """

    def __init__(
        self, backbone: "Backbone", query_terms: int, passage_terms: int, **settings: Any
    ) -> None:
        super().__init__(backbone, **settings)
        self.terms = {QUERIES: query_terms, PASSAGES: passage_terms}

    @classmethod
    def most_terms(cls, what: str, settings: Mapping[str, Any]) -> int | None:
        """The key of `queries` or `passages`."""
        return int(settings[KEYS[what]])

    def finished(self, vectors_BX: Tensor, what: str) -> Tensor:
        """[B, V] with all other weights 0."""
        return largest(vectors_BX, self.terms[what])
