"""Exact inner-product search over sparse vectors, by an inverted index.

Shapes: N documents, Q queries, V vocabulary, K hits per query.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from lion_sweep.search import postings
from lion_sweep.search.base import Engine
from lion_sweep.search.runs import NO_HIT, Run
from lion_sweep.search.topk import check_queries, sorted_documents

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
            _weights(vectors_NV[order_N[start : start + postings.BLOCK]]).tocsc()
            for start in range(0, len(self._ids), postings.BLOCK)
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
        documents_QK, scores_QK = postings.search(self._postings, queries, min(k, len(self._ids)))
        scores_QK = scores_QK.astype(np.result_type(scores_QK, np.float32))
        scores_QK[documents_QK == NO_HIT] = -np.inf
        return Run(list(query_ids), self._ids, documents_QK, scores_QK)

    def stats(self) -> dict[str, float]:
        """Return documents, terms (in use), postings, index_bytes and L0_documents (mean nnz)."""
        return dict(self._stats)
