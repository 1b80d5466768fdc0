"""A fixed set of candidates for every judged query: what its contrastive entropy is taken over.

The same for every cell on a collection: it follows from the judgements and the number of passages.
Source: Fang et al., Scaling Laws for Dense Retrieval, SIGIR 2024, who sample 256 negatives.

Shapes: Q queries, C sampled candidates of a query, P relevant pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data.collection import Judged

CANDIDATES, SEED = 256, 0


@dataclass(frozen=True)
class Pool:
    """Rows of texts: queries, what is relevant to them, and what was sampled for them."""

    query_Q: NDArray[np.int64]  # rows of the queries
    asked_P: NDArray[np.int64]  # which of these a relevant passage belongs to, ascending
    relevant_P: NDArray[np.int64]
    candidate_QC: NDArray[np.int64]  # distinct in a row, none of them relevant to its query

    @property
    def candidates(self) -> int:
        """C."""
        return self.candidate_QC.shape[1]


def pool(judged: Judged, documents: int, candidates: int = CANDIDATES) -> Pool:
    """Of the queries with a relevant passage that is there, in their order.

    Collections too small for so many have as many as there are for every query. Raises
    `ValueError` where no query has any.
    """
    query_J, document_J, grade_J = map(judged.column, ("query_row", "document_row", "grade"))
    known_J = (grade_J > 0) & (document_J >= 0)
    relevant_J = document_J[known_J].astype(np.int64)
    query_Q, first_Q = np.unique(query_J[known_J], return_index=True)
    order_Q = np.argsort(first_Q)
    place_Q = np.empty(len(order_Q), np.int64)
    place_Q[order_Q] = np.arange(len(order_Q))
    asked_J = place_Q[np.searchsorted(query_Q, query_J[known_J])]
    order_J = np.argsort(asked_J, kind="stable")
    asked_P, relevant_P = asked_J[order_J], relevant_J[order_J]
    most = documents - max(np.bincount(asked_P).tolist(), default=documents)
    if most < 1:
        raise ValueError("no query has both a relevant passage and another one")
    rng, drawn = np.random.default_rng(SEED), []
    for relevant in np.split(relevant_P, np.flatnonzero(np.diff(asked_P)) + 1):
        # As many more as are relevant, so that enough are left without these.
        some = rng.choice(documents, min(documents, candidates + len(relevant)), replace=False)
        drawn.append(some[~np.isin(some, relevant)][: min(candidates, most)])
    return Pool(query_Q[order_Q].astype(np.int64), asked_P, relevant_P, np.stack(drawn))
