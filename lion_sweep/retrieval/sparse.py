"""Exact inner-product search over sparse vectors, by an inverted index in scipy.

Shapes: N documents, Q queries, B queries of one block, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from lion_sweep.retrieval.runs import Run
from lion_sweep.retrieval.topk import check_queries, sorted_documents, top_hits

_SCORES_PER_BLOCK = 2**25
"""Most scores held at once: with their document numbers, 256 MiB."""


def non_negative_csr(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the matrix in canonical CSR form: no duplicates, no zeros stored, sorted columns.

    The argument is left as it is.

    Raises:
        ValueError: a weight is negative or not finite; learned sparse weights are neither.
    """
    matrix = sparse.csr_matrix(matrix, copy=True)
    if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
        raise ValueError("sparse vectors hold weights that are negative or not finite")
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def postings_stats(vectors_NV: sparse.csr_matrix, index_bytes: int) -> dict[str, float]:
    """Return the statistics of an inverted index over canonical document vectors."""
    documents = vectors_NV.shape[0]
    return {
        "documents": documents,
        "terms": np.unique(vectors_NV.indices).size,
        "postings": vectors_NV.nnz,
        "index_bytes": index_bytes,
        "L0_documents": vectors_NV.nnz / documents,
    }


class SparseIndex:
    """Inverted index with exhaustive term-at-a-time scoring in float32.

    Args:
        document_ids: [N] distinct ids.
        vectors_NV: [N, V] CSR, non-negative term weights of the documents.

    Raises:
        ValueError: no documents, repeated ids, shapes that disagree, weights negative or not
            finite.
    """

    def __init__(self, document_ids: Sequence[str], vectors_NV: sparse.csr_matrix) -> None:
        self._ids, order_N = sorted_documents(document_ids, vectors_NV.shape[0])
        vectors_NV = non_negative_csr(vectors_NV).astype(np.float32)[order_N]
        self._postings_VN = vectors_NV.T.tocsr()
        arrays = (self._postings_VN.data, self._postings_VN.indices, self._postings_VN.indptr)
        self._stats = postings_stats(vectors_NV, sum(array.nbytes for array in arrays))

    def search(self, query_ids: Sequence[str], vectors_QV: sparse.csr_matrix, k: int) -> Run:
        """Return the k documents of highest inner product above 0 for each query.

        Args:
            query_ids: [Q] distinct ids.
            vectors_QV: [Q, V] CSR, non-negative term weights of the queries.
            k: hits per query; fewer when fewer documents share a term with the query.

        Raises:
            ValueError: k below 1, repeated ids, shapes that disagree, weights negative or not
                finite.
        """
        terms, documents = self._postings_VN.shape
        check_queries(query_ids, vectors_QV.shape[0], k)
        if vectors_QV.shape[1] != terms:
            raise ValueError(f"queries have {vectors_QV.shape[1]} terms, the index {terms}")
        vectors_QV = non_negative_csr(vectors_QV).astype(np.float32)
        block = max(1, _SCORES_PER_BLOCK // documents)
        run: Run = {}
        for start in range(0, len(query_ids), block):
            scores_BN = vectors_QV[start : start + block] @ self._postings_VN
            scores_BN.eliminate_zeros()  # products below the smallest float32
            for row, query_id in enumerate(query_ids[start : start + block]):
                hits = slice(scores_BN.indptr[row], scores_BN.indptr[row + 1])
                run[query_id] = top_hits(
                    self._ids, scores_BN.indices[hits], scores_BN.data[hits], k
                )
        return run

    def stats(self) -> dict[str, float]:
        """Return documents, terms (in use), postings, index_bytes and L0_documents (mean nnz)."""
        return dict(self._stats)
