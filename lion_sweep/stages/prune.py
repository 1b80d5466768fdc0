"""Sparse vectors without their smaller weights, for searches to read: what stays, and how many."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.search.parts import Stored
from lion_sweep.search.pruning import Pruned, least_weight
from lion_sweep.stages.base import Stage
from lion_sweep.stages.encode import VECTORS, Encode
from lion_sweep.stages.workshop import Workshop


@dataclass(frozen=True, eq=False)
class Prune(Stage):
    """What stays of vectors that are there; they are not copied.

    Of every text so many of its largest weights (`terms`; None: all), or of all texts together the
    largest, down to one threshold, so many a text as `target` says (None: no threshold). A vector
    that has fewer gets no more.
    """

    kind = "prune"

    vectors: Encode
    terms: int | None = None
    target: float | None = None

    @property
    def sparse(self) -> bool:
        """Vectors are."""
        return self.vectors.sparse

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """The threshold, and the mean L0 before and after."""
        whole, least = self.vectors.read(shop), 0.0
        if self.target is not None:
            least = least_weight(whole, int(self.target * len(whole)))
        kept = Pruned(shop.folder(self.vectors) / VECTORS, self.terms, least)
        texts = len(whole)
        return {"least": least, "L0": kept.nnz / texts, "L0_encoded": whole.nnz / texts}

    def read(self, shop: Workshop) -> Stored:
        """The vectors as they are to be searched."""
        least = shop.run(self).facts["least"]
        return Pruned(shop.folder(self.vectors) / VECTORS, self.terms, least)

    def loaded(self, shop: Workshop) -> Any:
        """The encoder that made them."""
        return self.vectors.loaded(shop)
