"""Exact inner-product search over dense vectors, with faiss.

Shapes: N documents, Q queries, D dimensions, K hits fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import faiss
import numpy as np

from lion_sweep.retrieval.runs import Run
from lion_sweep.retrieval.topk import check_queries, sorted_documents, top_hits


@contextmanager
def _one_pair_at_a_time() -> Iterator[None]:
    # Through a matrix product, equal vectors get scores that differ in the last bit, depending
    # on their place in the block: ties would break by chance, and differently per batch of
    # queries. The direct kernel depends on the pair alone and was measured as fast.
    threshold = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = np.iinfo(np.int32).max
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = threshold


def _float32_rows(vectors: np.ndarray, name: str) -> np.ndarray:
    if vectors.ndim != 2:
        raise ValueError(f"{name} vectors have shape {vectors.shape}, not [rows, dimensions]")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name} vectors hold values that are not finite")
    return np.ascontiguousarray(vectors, dtype=np.float32)


class DenseIndex:
    """Flat inner-product index (faiss IndexFlatIP): exhaustive, exact in float32.

    Args:
        document_ids: [N] distinct ids.
        vectors_ND: [N, D] float32 document vectors.

    Raises:
        ValueError: no documents, repeated ids, shapes that disagree or values not finite.
    """

    def __init__(self, document_ids: Sequence[str], vectors_ND: np.ndarray) -> None:
        vectors_ND = _float32_rows(vectors_ND, "document")
        self._ids, order_N = sorted_documents(document_ids, len(vectors_ND))
        self._index = faiss.IndexFlatIP(vectors_ND.shape[1])
        self._index.add(vectors_ND[order_N])

    def search(self, query_ids: Sequence[str], vectors_QD: np.ndarray, k: int) -> Run:
        """Return the k documents of highest inner product for each query.

        Args:
            query_ids: [Q] distinct ids.
            vectors_QD: [Q, D] float32 query vectors.
            k: hits per query; all documents when there are fewer.

        Raises:
            ValueError: k below 1, repeated ids, shapes that disagree or values not finite.
        """
        vectors_QD = _float32_rows(vectors_QD, "query")
        check_queries(query_ids, len(vectors_QD), k)
        if vectors_QD.shape[1] != self._index.d:
            raise ValueError(f"queries have {vectors_QD.shape[1]} dimensions, not {self._index.d}")
        run: Run = {query_id: [] for query_id in query_ids}
        pending = np.arange(len(vectors_QD))
        fetched = min(k + 1, self._index.ntotal)
        while pending.size:
            with _one_pair_at_a_time():
                scores_QK, documents_QK = self._index.search(vectors_QD[pending], fetched)
            if fetched == self._index.ntotal:
                settled = np.full(len(pending), True)
            else:  # the list reaches past every tie of its k-th score
                settled = scores_QK[:, k - 1] > scores_QK[:, -1]
            for row in np.flatnonzero(settled):
                hits = top_hits(self._ids, documents_QK[row], scores_QK[row], k)
                run[query_ids[pending[row]]] = hits
            pending = pending[~settled]
            fetched = min(2 * fetched, self._index.ntotal)
        return run

    def stats(self) -> dict[str, float]:
        """Return documents, dimensions and index_bytes (bytes of the stored vectors)."""
        documents, dimensions = self._index.ntotal, self._index.d
        return {
            "documents": documents,
            "dimensions": dimensions,
            "index_bytes": documents * dimensions * np.dtype(np.float32).itemsize,
        }
