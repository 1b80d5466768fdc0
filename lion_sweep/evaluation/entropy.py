"""Contrastive entropy: how surprised an encoder is by what is relevant, among sampled passages.

Smooth where nDCG@10 is coarse, and in nats, which is what scaling laws of retrievers are fitted on.
Source: Fang et al., Scaling Laws for Dense Retrieval, SIGIR 2024 (arXiv 2403.18684).

Shapes: Q queries, C sampled candidates of a query, P pairs of a query and a passage; X is what one
text has.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lion_sweep.search.encoding import Vectors
from lion_sweep.search.parts import BLOCK, Stored

PairScores = Callable[[Vectors, Vectors], NDArray[np.floating]]
"""[P] scores of [P, *X] queries and the [P, *X] passage beside each; CSR and `Ragged` too."""

NUMBERS = 2**23  # of the vectors of pairs that are scored at once


def entropies(
    relevant_P: NDArray[np.floating],
    asked_P: NDArray[np.integer],
    candidate_QC: NDArray[np.floating],
) -> NDArray[np.float64]:
    """[Q], in nats: -log softmax of a relevant passage among itself and the sampled candidates.

    Scores are divided by the temperature already, and -inf takes a candidate out. Of a query's
    relevant passages (`asked_P` says whose each is) every one stands against the sampled ones
    alone, and their mean counts. A query without any is nan.
    """
    candidate_QC, relevant_P = candidate_QC.astype(np.float64), relevant_P.astype(np.float64)
    queries = len(candidate_QC)
    with np.errstate(invalid="ignore"):  # of a query without any, and of scores that are nan
        others_Q = np.logaddexp.reduce(candidate_QC, axis=1)
        entropy_P = np.logaddexp(relevant_P, others_Q[asked_P]) - relevant_P
        return np.bincount(asked_P, entropy_P, queries) / np.bincount(asked_P, minlength=queries)


def inner_products(query_PX: Vectors, passage_PX: Vectors) -> NDArray[np.floating]:
    """[P], of one vector per text."""
    if sparse.issparse(query_PX):
        return np.asarray(query_PX.multiply(passage_PX).sum(axis=1)).ravel()
    return np.einsum("pd,pd->p", query_PX, passage_PX)


def pair_scores(
    queries: Vectors,
    passages: Stored,
    pairs: tuple[NDArray[np.integer], NDArray[np.integer]],
    score: PairScores = inner_products,
    on_passage: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """[P] scores of `pairs`: rows of the queries, [P], and of the passages, [P], in any order.

    Passages are read block by block, those without a pair not at all, so that memory does not grow
    with their number.
    """
    query_P, passage_P = pairs
    order_P = np.argsort(passage_P, kind="stable")
    sorted_P = passage_P[order_P]
    if score is inner_products:
        numbers = passages.nnz // len(passages)
    else:
        padded = int(passages.count_M.max()) if passages.kind == "multi" else 1
        numbers = padded * int(np.prod(passages.shape[1:]))
    at_once = max(1, NUMBERS // max(1, numbers))
    found_P = np.empty(len(passage_P), np.float32)
    for start in range(0, len(passages), BLOCK):
        first, last = np.searchsorted(sorted_P, (start, start + BLOCK)).tolist()
        on_passage(min(start + BLOCK, len(passages)), len(passages))
        if first == last:
            continue
        block = passages.rows(start, start + BLOCK)
        for begin in range(first, last, at_once):
            chunk = order_P[begin : min(begin + at_once, last)]
            found_P[chunk] = score(queries[query_P[chunk]], block[passage_P[chunk] - start])
    return found_P
