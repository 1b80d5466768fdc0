"""What negatives are mined with where a finished cell finds them: its vectors and its engine.

Shapes: Q queries of a batch, K hits, P pairs; X is what one text has.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data.ids import Ids
from lion_sweep.evaluation.entropy import PairScores, pair_scores
from lion_sweep.search.base import Engine
from lion_sweep.search.encoding import Vectors
from lion_sweep.search.parts import Stored
from lion_sweep.search.runs import NO_HIT


@dataclass(frozen=True)
class Asking:
    """Vectors of the queries that are judged, by the rows of all."""

    ids: Ids  # of all queries
    asked_rows: NDArray[np.int64]  # of those judged, in the order of the vectors
    vectors: Stored

    def take(self, rows: NDArray[np.integer]) -> Vectors:
        """Those of some that stand one after the other, [Q, *X]."""
        first = int(np.flatnonzero(self.asked_rows == rows[0])[0])
        return self.vectors.rows(first, first + len(rows))


@dataclass(frozen=True)
class VectorsIndex:
    """Hits and scores, divided by the temperature."""

    ids: Ids
    engine: Engine
    passages: Stored
    score: PairScores
    temperature: float

    def found(
        self, queries: Vectors, k: int
    ) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]:
        """As `WordsIndex.found`, of [Q, *X] vectors."""
        names = [str(number) for number in range(queries.shape[0])]
        run = self.engine.search(names, queries, k)
        ranks_QK = run.documents_QK
        if len(run.document_ids) < len(self.ids):  # an engine may know only what it has found
            rank_M = self.ids.rank_N[self.ids.rows(run.document_ids)].astype(np.int32)
            ranks_QK = np.where(ranks_QK == NO_HIT, NO_HIT, rank_M[ranks_QK])
        return ranks_QK, run.scores_QK / self.temperature

    def scores(
        self, queries: Vectors, query_P: NDArray[np.integer], document_P: NDArray[np.integer]
    ) -> NDArray[np.floating[Any]]:
        """The score of each pair of a query's and a document's number, [P]."""
        pairs = query_P, document_P
        return pair_scores(queries, self.passages, pairs, self.score) / self.temperature
