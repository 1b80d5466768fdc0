"""Exact inner-product search over sparse vectors, by an inverted index.

The inner loop goes term at a time over blocks of documents, with numba. The accumulators of one
block stay in a core's cache, whatever the collection's size; queries are shared among threads. A
score is the sum of products in the order of the query's terms, so that it depends on the pair of
query and document alone.

Shapes: N documents, B blocks of them, V vocabulary, P postings, Q queries, T terms of all queries,
K hits per query, C candidates held for one query.
"""

import math
from collections.abc import Sequence

import numba
import numpy as np
from numba import njit, prange
from scipy import sparse

from lion_sweep.machine import threads
from lion_sweep.search.base import Engine, check_queries, sorted_documents
from lion_sweep.search.runs import NO_HIT, Run

BLOCK = 2**15  # documents: accumulators of 128 KiB. At most 2**16, for numbers of 16 bits
_LINE = 64  # accumulators looked at together: most lines hold no candidate, and are skipped
_QUERIES = 32  # at most so many search a block in turn, while its postings are in cache
_INTEGERS = 2**32  # weights and scores of integers stay below


def non_negative_csr(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return a copy in canonical CSR form: no duplicates, no zeros stored, sorted columns.

    Raises `ValueError` for a weight that is negative or not finite: learned weights are neither.
    """
    matrix = sparse.csr_matrix(matrix, copy=True)
    if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
        raise ValueError("sparse vectors hold weights that are negative or not finite")
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def postings_stats(documents: int, terms: int, stored: int, index_bytes: int) -> dict[str, float]:
    """Return the statistics of an inverted index; `terms` are those in use."""
    return {
        "documents": documents,
        "terms": terms,
        "postings": stored,
        "index_bytes": index_bytes,
        "L0_documents": stored / documents,
    }


def _weights(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Canonical CSR of float32 or, from integers, of uint32."""
    matrix = non_negative_csr(matrix)
    if not np.issubdtype(matrix.dtype, np.integer):
        return matrix.astype(np.float32)
    if matrix.data.max(initial=0) >= _INTEGERS:
        raise ValueError(f"integer weights go up to {_INTEGERS - 1}, not {matrix.data.max()}")
    return matrix.astype(np.uint32)


@njit(cache=True)
def _keep_best(candidates_C, count, k):  # type: ignore[no-untyped-def]
    """Move the k largest of the first `count` keys to the front; return the smallest of them."""
    keys = np.partition(candidates_C[:count], count - k)
    candidates_C[:k] = keys[count - k :]
    return keys[count - k]


@njit(cache=True, parallel=True)
def _best_keys(  # type: ignore[no-untyped-def]
    block_start_B,  # [B + 1] first posting of each block
    term_start_BV,  # [B, V + 1] first posting of each term, counted from its block's first
    document_P,  # uint16 numbers of documents, counted from their block's first
    weight_P,  # float32 or uint32
    query_start_Q,  # [Q + 1] first term of each query
    term_T,
    weight_T,  # of the same type as weight_P
    k,
    together,  # queries that share a thread's pass over the postings
):
    """[Q, K] uint64 keys of the best documents, in no order; 0 where there are fewer.

    A key holds the score's 32 bits, then the complement of the document's number: a larger key
    comes first under the rule of ties. Bits of float32 that are not negative, and of uint32,
    compare as their values do.
    """
    queries = len(query_start_Q) - 1
    found_QK = np.zeros((queries, k), dtype=np.uint64)
    for chunk in prange((queries + together - 1) // together):
        first = chunk * together
        last = min(first + together, queries)
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


class SparseIndex(Engine):
    """Inverted index with exhaustive term-at-a-time scoring.

    Weights and scores are float32: a score adds one product per term, in ascending order of
    terms, as scipy's product of CSR matrices does. It is the same for every k, batch of queries
    and number of threads, and equal vectors tie. Sums of integers are exact up to 2**24. From
    vectors of an integer type, weights and scores are integers, exact below 2**32.

    A posting takes 6 bytes. A search adds 4 (V + 1) bytes per 32,768 documents in the index and
    40 K bytes per query for the hits.

    Vectors are CSR, [N, V], of term weights that are finite and not negative, integers below 2**32.
    """

    exact = True

    def __init__(self, document_ids: Sequence[str], vectors_NV: sparse.csr_matrix) -> None:
        self._ids, order_N = sorted_documents(document_ids, vectors_NV.shape[0])
        vectors_NV, self._terms = sparse.csr_matrix(vectors_NV), vectors_NV.shape[1]
        blocks = [
            _weights(vectors_NV[order_N[start : start + BLOCK]]).tocsc()
            for start in range(0, len(self._ids), BLOCK)
        ]
        self._postings = (
            np.cumsum([0, *(block.nnz for block in blocks)], dtype=np.int64),
            np.stack([block.indptr for block in blocks]),
            np.concatenate([block.indices.astype(np.uint16) for block in blocks]),
            np.concatenate([block.data for block in blocks]),
        )
        index_bytes = sum(array.nbytes for array in self._postings)
        terms = int(np.diff(self._postings[1], axis=1).any(axis=0).sum())
        stored = int(self._postings[0][-1])
        self._stats = postings_stats(len(self._ids), terms, stored, index_bytes)

    def search(self, query_ids: Sequence[str], vectors_QV: sparse.csr_matrix, k: int) -> Run:
        """Return the k documents of highest inner product above 0 for each query.

        Weights are integers where the documents' are. Raises `ValueError` where `Engine.search`
        does, for other types, and where a sum of integers could reach 2**32.
        """
        check_queries(query_ids, vectors_QV.shape[0], k)
        if vectors_QV.shape[1] != self._terms:
            raise ValueError(f"queries have {vectors_QV.shape[1]} terms, the index {self._terms}")
        vectors_QV, weight_P = _weights(vectors_QV), self._postings[3]
        if vectors_QV.dtype != weight_P.dtype:
            raise ValueError("queries and documents must both have integer weights, or neither")
        if vectors_QV.dtype == np.uint32:
            largest = int(vectors_QV.sum(axis=1).max()) * int(weight_P.max(initial=0))
            if largest >= _INTEGERS:
                raise ValueError(f"a score could reach {largest}: use smaller integers, or floats")
        queries = (vectors_QV.indptr, vectors_QV.indices, vectors_QV.data)
        threads.as_torch_has()
        together = max(1, min(_QUERIES, math.ceil(len(query_ids) / numba.get_num_threads())))
        keys_QK = _best_keys(*self._postings, *queries, min(k, len(self._ids)), together)
        keys_QK = np.sort(keys_QK, axis=1)[:, ::-1]
        documents_QK = (~keys_QK).astype(np.uint32).view(np.int32)  # of the key 0: NO_HIT
        scores_QK = (keys_QK >> np.uint64(32)).astype(np.uint32).view(weight_P.dtype)
        scores_QK = scores_QK.astype(np.result_type(scores_QK, np.float32))
        scores_QK[documents_QK == NO_HIT] = -np.inf
        return Run(list(query_ids), self._ids, documents_QK, scores_QK)
