"""A finished cell as a teacher: of another size, another paradigm, or of the same (born again).

Shapes: R rows of queries that are drawn, G = 1 + negatives, P pairs, V vectors; X is what one text
has.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lion_sweep.config import Precision
from lion_sweep.cost.meter import Spending
from lion_sweep.data.drawn import Drawn
from lion_sweep.data.ragged import Ragged
from lion_sweep.evaluation.entropy import pair_scores
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.search.encoding import Vectors
from lion_sweep.search.parts import Stored
from lion_sweep.stages.base import Paid
from lion_sweep.stages.embed import Rows, places
from lion_sweep.stages.encode import VECTORS, Encode
from lion_sweep.stages.entropy import Scoring
from lion_sweep.stages.finished_weights import FinishedWeights
from lion_sweep.stages.scorers import Scorer
from lion_sweep.stages.texts import Cut, Source
from lion_sweep.stages.workshop import Workshop


@dataclass(frozen=True, eq=False)
class EncodeDrawn(Encode, Paid):
    """Vectors of the texts that a part of the steps is the first to draw; the leader makes them."""

    together = False

    weights: FinishedWeights
    drawn: Rows = field(kw_only=True)

    def rows(self, shop: Workshop) -> NDArray[np.int64]:
        """Of the texts, [N]."""
        return self.drawn.of

    def planned(self, shop: Workshop) -> Spending:
        """Nothing is loaded."""
        meter = self.meter(self.weights.shape)
        return meter.texts(self.lengths(shop), shop.execution.batch_tokens)


@dataclass(frozen=True)
class Cell(Scorer):
    """The scores that a finished cell's own losses read: its paradigm's, over its temperature."""

    weights: FinishedWeights
    queries: Cut
    passages: Cut
    scoring: Scoring
    precision: Precision

    @classmethod
    def of(  # type: ignore[override]
        cls, name: str, pairs: Source, shop: Workshop, *, cell: str
    ) -> Self:
        """`cell` is a finished one's folder, its id, or its axes as in `8b-dense-clkd`."""
        weights = FinishedWeights.named(cell, shop.root)
        cuts = weights.tokens(pairs, shop, f"teacher {name}")
        return cls(weights, *cuts, weights.scoring, weights.cell.config.recipe.precision)

    def _encodes(self, drawn: Drawn) -> tuple[list[EncodeDrawn], list[EncodeDrawn]]:
        """Of queries and of passages: every text once, in the first part that names it."""
        paradigm = self.weights.cell.config.paradigm

        def encode(cut: Cut, rows: NDArray[np.int64], what: str) -> EncodeDrawn:
            how = None, paradigm.made_by.over_vocabulary, paradigm.most_terms(what), self.precision
            return EncodeDrawn(
                self.weights,
                cut,
                *how,
                projected=paradigm.projected,
                drawn=Rows(rows),
                title=f"teacher encodes {what}",
            )

        queries, passages = (
            [encode(cut, rows, what) for rows in of if len(rows)]
            for cut, of, what in (
                (self.queries, drawn.queries, QUERIES),
                (self.passages, drawn.passages, PASSAGES),
            )
        )
        return queries, passages

    def paid(self, drawn: Drawn) -> tuple[Paid, ...]:
        """Its vectors."""
        queries, passages = self._encodes(drawn)
        return (*queries, *passages)

    def scores(self, drawn: Drawn, shop: Workshop) -> NDArray[np.float32]:
        """Passages' vectors are read block by block, queries' are in memory."""
        queries, passages = self._encodes(drawn)
        place_R = places((one.drawn for one in queries), drawn.step.query_B)
        query_VX = stacked(_stored(encode, shop).all() for encode in queries)
        passage_RG = drawn.step.passage_BG
        query_P = place_R.repeat(passage_RG.shape[1])
        passage_P, found_P = passage_RG.ravel(), np.empty(passage_RG.size, np.float32)
        score = self.scoring.of_vectors(passages[0], shop)
        for encode in passages:
            row_V = encode.drawn.of  # ascending
            place_P = np.searchsorted(row_V, passage_P)
            of_part = np.flatnonzero(row_V[np.minimum(place_P, len(row_V) - 1)] == passage_P)
            pairs = query_P[of_part], place_P[of_part]
            found_P[of_part] = pair_scores(query_VX, _stored(encode, shop), pairs, score)
        return (found_P / self.scoring.temperature).reshape(passage_RG.shape)


def _stored(encode: Encode, shop: Workshop) -> Stored:
    return Stored(encode.whole(shop).folder / VECTORS)


def stacked(parts: Iterable[Any]) -> Vectors:
    """Vectors of several stages, one after the other, [V, *X]."""
    found = list(parts)
    if sparse.issparse(found[0]):
        return sparse.vstack(found, format="csr")
    if isinstance(found[0], Ragged):
        return Ragged.joined(found)
    return np.concatenate(found)
