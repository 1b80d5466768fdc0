"""What indexes share: checks of input, the exact top k under the rule of ties, what is missed.

An index stores its documents in ascending order of id, so that a document's number says where
its id sorts. Shapes: N documents, M candidates (M <= N).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.search.runs import Run


def sorted_documents(document_ids: Sequence[str], rows: int) -> tuple[list[str], np.ndarray]:
    """Return the ids in ascending order and, [N], the row each of them came from.

    Raises `ValueError` where there is none, an id occurs twice, or there are not `rows` of them.
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
    """Raise `ValueError` where k is below 1, an id occurs twice, or there are not `rows` ids."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if len(query_ids) != rows:
        raise ValueError(f"{len(query_ids)} query ids for {rows} queries")
    if len(set(query_ids)) != rows:
        raise ValueError("a query id occurs more than once")


def best(
    documents_M: NDArray[np.integer[Any]], scores_M: NDArray[np.floating[Any]], k: int
) -> tuple[NDArray[np.integer[Any]], NDArray[np.floating[Any]]]:
    """Return numbers and scores of the k best candidates under the rule of ties; fewer if M < k."""
    if len(scores_M) > k:
        kth = np.partition(scores_M, -k)[-k]
        # Every document tied with the k-th competes for the last places.
        competing = scores_M >= kth
        documents_M, scores_M = documents_M[competing], scores_M[competing]
    order = np.lexsort((documents_M, -scores_M))[:k]
    return documents_M[order], scores_M[order]


def agreement(found: Run, exact: Run) -> dict[str, float]:
    """Return the shares of exact search's hits that another search has found.

    agreement_10 is of the first 10 hits of both, agreement of all; each is averaged over the
    queries for which exact search has hits, and neither is there where it has none.
    """
    known = set(found.query_ids)
    pairs = [
        (hits, found.hits(query_id) if query_id in known else [])
        for query_id, hits in exact.as_mapping().items()
        if hits
    ]
    if not pairs:
        return {}

    def shared(k: int | None) -> float:
        tops = [(dict(own[:k]).keys(), dict(theirs[:k]).keys()) for own, theirs in pairs]
        return float(np.mean([len(own & theirs) / len(own) for own, theirs in tops]))

    return {"agreement_10": shared(10), "agreement": shared(None)}
