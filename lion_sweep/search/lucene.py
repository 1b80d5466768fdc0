"""Impact search over quantised sparse vectors, with Lucene through Anserini.

Shapes: N documents, Q queries, V vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from lion_sweep.search import anserini, anserini_files
from lion_sweep.search.base import check_queries, sorted_documents
from lion_sweep.search.encoded import weights_of
from lion_sweep.search.postings import non_negative_csr, postings_stats
from lion_sweep.search.runs import Run

_FLOAT32_INTEGERS = 2**24  # Lucene scores in float32, exact for integers below this


def quantise(matrix: sparse.csr_matrix, bits: int) -> tuple[sparse.csr_matrix, float]:
    """Return integer levels, 1 to 2**bits - 1, and the scale that maps them back to weights.

    One linear scale for the whole matrix, as usual for impact indexes: the largest weight gets
    the highest level, every weight is off by at most half the scale, and weights that round to
    level 0 are dropped. A matrix without weights has scale 1. Raises `ValueError` for bits outside
    1 to 16, and for a weight that is negative or not finite.
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"bits must be 1 to 16, not {bits}")
    matrix = non_negative_csr(matrix).astype(np.float64)
    scale = float(matrix.data.max(initial=0.0)) / (2**bits - 1) or 1.0
    matrix.data = np.rint(matrix.data / scale)
    matrix.eliminate_zeros()
    return matrix.astype(np.int32), scale


class ImpactSearcher:
    """Search by levels in a Lucene index of the documents that `anserini_files` writes.

    Their ids are in ascending order. Raises `RuntimeError` where `anserini.index` does.
    """

    def __init__(self, documents: Path, index: Path, document_ids: Sequence[str]) -> None:
        anserini.index("JsonVectorCollection", documents, index, "-impact", "-pretokenized")
        similarity = anserini.java_class()("io.anserini.search.similarity.ImpactSimilarity")()
        self._searcher, self._ids = anserini.Searcher(index, document_ids, similarity), document_ids

    def search(
        self, query_ids: Sequence[str], levels_QV: sparse.csr_matrix, k: int, scale: float = 1.0
    ) -> Run:
        """The best by sums of products, times `scale`; `ValueError` for a sum that is inexact."""
        java, rows = anserini.java_class(), []
        new_map, number = java("java.util.HashMap"), java("java.lang.Float")
        for row, query_id in enumerate(query_ids):
            weights = new_map()
            for term, level in weights_of(levels_QV, row).items():
                weights.put(term, number(level))
            documents_M, sums_M = self._searcher.hits(k, weights)
            if sums_M.max(initial=0.0) >= _FLOAT32_INTEGERS:
                raise ValueError(f"query {query_id}: {sums_M.max():.0f} is beyond exact float32")
            rows.append((documents_M, sums_M.astype(np.float64) * scale))
        return Run.stacked(query_ids, self._ids, rows)


class LuceneImpactIndex(anserini.LuceneIndex):
    """Lucene index of quantised impacts; finds what exact search on the levels finds.

    Vectors are those of `SparseIndex`, with a term in one of them. Weights of documents and queries
    get so many `bits`, 1 to 16, see `quantise`. Indexing time grows with the sum of the levels, and
    a score must stay below 2**24.
    """

    def __init__(
        self,
        document_ids: Sequence[str],
        vectors_NV: sparse.csr_matrix,
        folder: Path,
        bits: int = 8,
    ) -> None:
        ids, order_N = sorted_documents(document_ids, vectors_NV.shape[0])
        self._bits, self._terms = bits, vectors_NV.shape[1]
        levels_NV, self._scale = quantise(vectors_NV, bits)
        levels_NV = levels_NV[order_N]
        if not levels_NV.nnz:
            raise ValueError("no document has a term, and Lucene cannot open an index without any")
        with anserini.to_index(folder) as (documents, index):
            anserini_files.write_documents(documents, ids, levels_NV)
            self._searcher = ImpactSearcher(documents, index, ids)
        index_bytes = sum(file.stat().st_size for file in index.iterdir())
        terms = np.unique(levels_NV.indices).size
        self._stats = postings_stats(len(ids), terms, levels_NV.nnz, index_bytes)

    def search(self, query_ids: Sequence[str], vectors_QV: sparse.csr_matrix, k: int) -> Run:
        """Return the k documents of highest impact score above 0 for each query.

        The queries are quantised together; a score is the exact sum of products of levels times
        the scales of documents and queries. One too large for that is a `ValueError`.
        """
        check_queries(query_ids, vectors_QV.shape[0], k)
        if vectors_QV.shape[1] != self._terms:
            raise ValueError(f"queries have {vectors_QV.shape[1]} terms, the index {self._terms}")
        levels_QV, query_scale = quantise(vectors_QV, self._bits)
        return self._searcher.search(query_ids, levels_QV, k, self._scale * query_scale)
