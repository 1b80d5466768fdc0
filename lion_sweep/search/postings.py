"""The inner loop of exact sparse search: term at a time over blocks of documents, with numba.

The accumulators of one block of documents stay in a core's cache, whatever the collection's size;
queries are shared among threads. A score is the sum of products in the order of the query's terms,
so that it depends on the pair of query and document alone.

Shapes: B blocks of documents, V vocabulary, P postings, Q queries, T terms of all queries,
K hits kept per query, C candidates held for one query.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from lion_sweep.machine import threads

BLOCK = 2**15
"""Documents of a block: accumulators of 128 KiB. At most 2**16, for numbers of 16 bits."""

_LINE = 64  # accumulators looked at together: most lines hold no candidate, and are skipped
_QUERIES = 32  # at most so many search a block in turn, while its postings are in cache


@njit(cache=True)
def _keep_best(candidates_C, count, k):  # type: ignore[no-untyped-def]
    """Move the k largest of the first `count` keys to the front; return the smallest of them."""
    keys = np.partition(candidates_C[:count], count - k)
    candidates_C[:k] = keys[count - k :]
    return keys[count - k]


@njit(cache=True, parallel=True)
def best_keys(  # type: ignore[no-untyped-def]
    block_start_B,
    term_start_BV,
    document_P,
    weight_P,
    query_start_Q,
    term_T,
    weight_T,
    k,
    queries_together,
):
    """Return [Q, K] uint64 keys of the best documents, in no order; 0 where there are fewer.

    A key holds the score's 32 bits, then the complement of the document's number: a larger key
    comes first under the rule of ties. Bits of float32 that are not negative, and of uint32,
    compare as their values do.

    Args:
        block_start_B: [B + 1] first posting of each block.
        term_start_BV: [B, V + 1] first posting of each term, counted from its block's first.
        document_P: uint16 numbers of documents, counted from their block's first.
        weight_P: float32 or uint32 weights.
        query_start_Q: [Q + 1] first term of each query.
        term_T: terms of all queries.
        weight_T: their weights, of the same type as `weight_P`.
        k: hits to find per query.
        queries_together: queries that share a thread's pass over the postings.
    """
    queries = len(query_start_Q) - 1
    found_QK = np.zeros((queries, k), dtype=np.uint64)
    for chunk in prange((queries + queries_together - 1) // queries_together):
        first = chunk * queries_together
        last = min(first + queries_together, queries)
        scores = np.zeros(BLOCK, dtype=weight_P.dtype)
        bits = scores.view(np.uint32)
        candidates = np.zeros((last - first, 2 * k + _LINE), dtype=np.uint64)
        counts = np.zeros(last - first, dtype=np.int64)
        # Documents come in ascending order, so that one with the score of the k-th loses to it.
        least = np.zeros(last - first, dtype=np.uint32)
        for block in range(len(block_start_B) - 1):
            term_start_V = term_start_BV[block]
            for query in range(first, last):
                own = query - first
                for place in range(query_start_Q[query], query_start_Q[query + 1]):
                    term, weight = term_T[place], weight_T[place]
                    start = block_start_B[block] + term_start_V[term]
                    end = block_start_B[block] + term_start_V[term + 1]
                    for posting in range(start, end):
                        scores[document_P[posting]] += weight * weight_P[posting]
                for line in range(0, BLOCK, _LINE):
                    above = 0
                    for document in range(line, line + _LINE):
                        above += bits[document] > least[own]
                    if above > 0:
                        for document in range(line, line + _LINE):
                            if bits[document] > least[own]:
                                number = np.uint64(block * BLOCK + document)
                                key = np.uint64(bits[document]) << np.uint64(32)
                                key |= np.uint64(0xFFFFFFFF) - number
                                candidates[own, counts[own]] = key
                                counts[own] += 1
                        if counts[own] > 2 * k:
                            kth = _keep_best(candidates[own], counts[own], k)
                            least[own] = np.uint32(kth >> np.uint64(32))
                            counts[own] = k
                    for document in range(line, line + _LINE):
                        scores[document] = 0
        for query in range(first, last):
            count = counts[query - first]
            if count > k:
                _keep_best(candidates[query - first], count, k)
                count = k
            found_QK[query, :count] = candidates[query - first, :count]
    return found_QK


def search(
    postings: tuple[NDArray[Any], ...], queries: tuple[NDArray[Any], ...], k: int
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Return [Q, K] numbers of documents and their scores, best first; number -1 has no score.

    `postings` are the first four arrays of `best_keys`, `queries` the next three.
    """
    threads.as_torch_has()
    share = math.ceil((len(queries[0]) - 1) / numba.get_num_threads())
    together = max(1, min(_QUERIES, share))
    keys_QK = best_keys(*postings, *queries, k, together)  # type: ignore[call-arg]
    keys_QK = np.sort(keys_QK, axis=1)[:, ::-1]
    documents_QK = (np.uint64(0xFFFFFFFF) - (keys_QK & np.uint64(0xFFFFFFFF))).astype(np.int64)
    documents_QK[keys_QK == 0] = -1
    scores_QK = (keys_QK >> np.uint64(32)).astype(np.uint32).view(postings[3].dtype)
    return documents_QK.astype(np.int32), scores_QK
