"""Hard negatives: first hits of a search, some thousands of queries at a time.

Shapes: N documents, J judgements, Q queries of a batch, P training pairs, K hits, M negatives.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lion_sweep.data.collection import Flaws, Judged
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.data.ids import Ids

QUERIES = 8192  # searched together


class Index(Protocol):
    """Finds and scores documents, see `WordsIndex`; queries are what `Queries` takes."""

    @property
    def ids(self) -> Ids:
        """Of the documents, by their rows."""

    def found(
        self, queries: Any, k: int, /
    ) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]: ...

    def scores(
        self, queries: Any, query_P: NDArray[np.integer], document_P: NDArray[np.integer], /
    ) -> NDArray[np.floating[Any]]: ...


class Queries(Protocol):
    """Texts, or vectors, of queries."""

    @property
    def ids(self) -> Ids:
        """Of all, by their rows."""

    def take(self, rows: NDArray[np.integer], /) -> Any:
        """Those of some."""


def count(judged: Judged, at_once: int | None = None) -> int:
    """Of batches."""
    return -(-len(judged.asked) // (at_once or QUERIES))


def batches(
    index: Index,
    queries: Queries,
    judged: Judged,
    depth: int,
    first: int = 0,
    at_once: int | None = None,
) -> Iterator[tuple[Groups, Flaws]]:
    """The groups of each batch of `at_once` queries, from the `first` batch on, and what is left
    out.

    Negatives are the first `depth` hits of a query that are not judged relevant to it, nor the
    query itself, where queries are passages too. Left out are pairs whose positive is not there, or
    whose query has no such hit.
    """
    size = at_once or QUERIES
    query_J, all_J, grade_J = map(judged.column, ("query_row", "document_row", "grade"))
    changes = np.flatnonzero(np.diff(query_J)) + 1
    start_Q, order_N = np.concatenate([[0], changes, [len(query_J)]]), index.ids.order_N
    asked = query_J[start_Q[:-1]]
    self_Q = index.ids.rows(Ids(queries.ids.array.take(asked)))
    for batch in range(first, count(judged, size)):
        own = slice(batch * size, (batch + 1) * size)
        of_batch = queries.take(asked[own])
        ranks_QK, scores_QK = index.found(of_batch, depth)
        starts = start_Q[own.start : own.stop + 1]
        document_J = all_J[starts[0] : starts[-1]]
        positive_J = grade_J[starts[0] : starts[-1]] > 0
        asked_J = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        known_J = positive_J & (document_J >= 0)
        query_P, positive_P = asked_J[known_J], document_J[known_J].astype(np.int32)
        hit_QK = np.where(ranks_QK < 0, MISSING, order_N[ranks_QK]).astype(np.int32)
        score_QK = scores_QK.astype(np.float32)
        positive_start_Q = np.searchsorted(query_P, np.arange(len(starts)))
        _leave_negatives(hit_QK, score_QK, self_Q[own], positive_start_Q, positive_P)
        usable_P = (hit_QK[:, 0] != MISSING)[query_P]
        flaws = {
            "missing_positives": int(positive_J.sum() - known_J.sum()),
            "without_negatives": int((~usable_P).sum()),
        }
        score_P = index.scores(of_batch, query_P, positive_P)[usable_P]
        query_P, positive_P = query_P[usable_P], positive_P[usable_P]
        negatives = (_wide(part_QK, depth)[query_P] for part_QK in (hit_QK, score_QK))
        rows_P = asked[own][query_P].astype(np.int32)
        negative_PM, score_PM = negatives
        yield Groups(rows_P, positive_P, negative_PM, score_P, score_PM), flaws


@njit(cache=True)
def _leave_negatives(hit_QK, score_QK, self_Q, start_Q, positive_P):  # type: ignore[no-untyped-def]
    """Take the query itself and positives out of hits, in place; the others move up."""
    for query in range(len(hit_QK)):
        own = positive_P[start_Q[query] : start_Q[query + 1]]
        kept = 0
        for place in range(hit_QK.shape[1]):
            hit, score = hit_QK[query, place], score_QK[query, place]
            hit_QK[query, place], score_QK[query, place] = MISSING, 0
            wanted = hit != MISSING and hit != self_Q[query]
            for positive in own:
                wanted &= hit != positive
            if wanted:
                hit_QK[query, kept], score_QK[query, kept] = hit, score
                kept += 1


def _wide(part_QK: NDArray, depth: int) -> NDArray:
    """Columns for `depth` hits, where there are fewer documents."""
    empty = MISSING if np.issubdtype(part_QK.dtype, np.integer) else 0
    return np.pad(part_QK, ((0, 0), (0, depth - part_QK.shape[1])), constant_values=empty)
