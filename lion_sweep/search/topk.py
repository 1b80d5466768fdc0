"""What indexes share: checks of input, the exact top k under the rule of ties, what is missed.

An index stores its documents in ascending order of id, so that a document's number says where
its id sorts. Shapes: N documents, M candidates (M <= N), Q queries, K hits kept of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sorted_documents(document_ids: Sequence[str], rows: int) -> tuple[list[str], np.ndarray]:
    """Return the ids in ascending order and, [N], the row each of them came from.

    Raises:
        ValueError: there are no documents, an id occurs twice, or `rows` (documents given as
            vectors or texts) differs from the number of ids.
    """
    if not document_ids:
        raise ValueError("an index needs at least one document")
    if len(document_ids) != rows:
        raise ValueError(f"{len(document_ids)} document ids for {rows} documents")
    order_N = np.array(sorted(range(rows), key=document_ids.__getitem__))
    ids = [document_ids[row] for row in order_N]
    for previous, current in pairwise(ids):
        if previous == current:
            raise ValueError(f"document id {current!r} occurs more than once")
    return ids, order_N


def check_queries(query_ids: Sequence[str], rows: int, k: int) -> None:
    """Check the arguments of a search.

    Raises:
        ValueError: k is below 1, a query id occurs twice, or `rows` (queries given as vectors or
            texts) differs from the number of ids.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if len(query_ids) != rows:
        raise ValueError(f"{len(query_ids)} query ids for {rows} queries")
    if len(set(query_ids)) != rows:
        raise ValueError("a query id occurs more than once")


def best(
    documents_M: NDArray[np.integer[Any]], scores_M: NDArray[np.floating[Any]], k: int
) -> tuple[NDArray[np.integer[Any]], NDArray[np.floating[Any]]]:
    """Return numbers and scores of the k best candidates under the rule of ties; fewer if M < k.

    Args:
        documents_M: [M] document numbers, in any order.
        scores_M: [M] their scores.
        k: most hits to return, at least 1.
    """
    if len(scores_M) > k:
        kth = np.partition(scores_M, -k)[-k]
        # Every document tied with the k-th competes for the last places.
        competing = scores_M >= kth
        documents_M, scores_M = documents_M[competing], scores_M[competing]
    order = np.lexsort((documents_M, -scores_M))[:k]
    return documents_M[order], scores_M[order]


def agreement(
    found_QK: NDArray[np.integer[Any]], exact_QK: NDArray[np.integer[Any]]
) -> dict[str, float]:
    """Return the shares of exact search's hits that a search that is not exact has found.

    agreement_10 is of the first 10 hits of both, agreement of all; each is averaged over the
    queries that have hits, and neither is there where none has.

    Args:
        found_QK: [Q, K] document numbers, best first, -1 after the last hit of a query.
        exact_QK: the same of exact search; its K may be another.
    """
    pairs = [
        (found[found >= 0], exact[exact >= 0])
        for found, exact in zip(found_QK, exact_QK, strict=True)
    ]
    pairs = [(found_M, exact_M) for found_M, exact_M in pairs if len(exact_M)]
    if not pairs:
        return {}

    def shared(k: int | None) -> float:
        shares = [np.isin(exact_M[:k], found_M[:k]).mean() for found_M, exact_M in pairs]
        return float(np.mean(shares))

    return {"agreement_10": shared(10), "agreement": shared(None)}
