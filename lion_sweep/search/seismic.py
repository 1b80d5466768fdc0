"""Approximate inner-product search over sparse vectors, with Seismic (package pyseismic-lsr).

Source: Bruch et al., Efficient Inverted Indexes for Approximate Retrieval over Learned Sparse
Representations, SIGIR 2024.

Shapes: N documents, Q queries, V vocabulary, U terms that a document has, M hits of one query,
S queries of the sample.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse

from lion_sweep.config.section import require, share
from lion_sweep.search.base import Engine, Where, agreement, best, check_queries, sorted_documents
from lion_sweep.search.postings import non_negative_csr, postings_stats
from lion_sweep.search.runs import Run
from lion_sweep.search.sparse import SparseIndex

_MAX_FRACTION = 6.0  # longest list over n_postings: what Seismic's guide takes for MS MARCO
_SAMPLE = 100  # queries that exact search answers too


@contextmanager
def _silenced() -> Iterator[None]:
    """Drop what Seismic prints, past Python, to standard output: results are read from there."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class SeismicIndex(Engine):
    """Clustered inverted index that skips what promises little: fast, and misses hits.

    The hits it finds get their exact inner products, as `SparseIndex` has them, and are ordered
    by these. `stats` tells which share of the exact hits was found, averaged over a hundred queries
    of the last search. Vectors are those of `SparseIndex`, with a term in one of them.

    The settings are those of conf/engine/seismic.yaml; what a summary leaves out can only be found
    with heap_factor 0. The index is written to `folder` for its size, and does not stay.
    """

    @classmethod
    def missing(cls) -> str:
        if find_spec("seismic") is None:
            return "its package is not installed: pip install 'pyseismic-lsr>=0.5.4'"
        return ""

    @classmethod
    def check(cls, key: str, settings: Mapping[str, Any]) -> None:
        for name in ("n_postings", "query_cut"):
            require(settings[name] > 0, f"{key}.{name}={settings[name]} must be greater than 0.")
        for name in ("summary_energy", "heap_factor"):
            share(f"{key}.{name}", settings[name])

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> Self:
        return cls(document_ids, documents, where.folder, **settings)

    def __init__(
        self,
        document_ids: Sequence[str],
        vectors_NV: sparse.csr_matrix,
        folder: Path,
        *,
        n_postings: int,
        summary_energy: float,
        query_cut: int,
        heap_factor: float,
    ) -> None:
        import seismic  # an extra

        self._ids, order_N = sorted_documents(document_ids, vectors_NV.shape[0])
        self._query_cut, self._heap_factor = query_cut, heap_factor
        self._terms, self._token = vectors_NV.shape[1], seismic.get_seismic_string()
        vectors_NV = non_negative_csr(vectors_NV)[order_N].astype(np.float32)
        if not vectors_NV.nnz:
            raise ValueError("no document has a term, and Seismic cannot index that")
        # Every term costs a list, used or not.
        self._used_U = np.unique(vectors_NV.indices)
        self._vectors_NU = vectors_NV[:, self._used_U]
        # The plain classes number terms in 16 bits, too few for the vocabularies of LLMs.
        dataset = seismic.SeismicDatasetLV(len(self._used_U))
        dataset.add_documents_by_id(
            list(map(str, range(len(self._ids)))),
            self._vectors_NU.indices.astype(np.int64),
            self._vectors_NU.data,
            self._vectors_NU.indptr.astype(np.int64),
        )
        lists = {"n_postings": n_postings, "max_fraction": _MAX_FRACTION}
        written = folder / "whole.index.seismic"
        try:
            with _silenced():
                self._index: Any = seismic.SeismicIndexLV.build_from_dataset(
                    dataset, summary_energy=summary_energy, **lists
                )
                self._index.save(str(folder / "whole"))
            index_bytes = written.stat().st_size
        finally:
            written.unlink(missing_ok=True)
        documents, terms = self._vectors_NU.shape
        self._stats = postings_stats(documents, terms, self._vectors_NU.nnz, index_bytes)

    def search(self, query_ids: Sequence[str], vectors_QV: sparse.csr_matrix, k: int) -> Run:
        """Return k documents of high inner product above 0 for each query."""
        check_queries(query_ids, vectors_QV.shape[0], k)
        if vectors_QV.shape[1] != self._terms:
            raise ValueError(f"queries have {vectors_QV.shape[1]} terms, the index {self._terms}")
        queries_QU = non_negative_csr(vectors_QV)[:, self._used_U].astype(np.float32)
        rows = []
        for row, found in enumerate(self._found(queries_QU, k)):
            documents_M = np.array(found, dtype=np.int64)
            # Seismic's own scores are those of weights in half precision.
            scores_M = self._vectors_NU[documents_M] @ queries_QU[row].toarray()[0]
            rows.append(best(documents_M[scores_M > 0], scores_M[scores_M > 0], k))
        run = Run.stacked(query_ids, self._ids, rows)
        sample_S = np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).astype(int)
        exact = SparseIndex(self._ids, self._vectors_NU).search(
            [query_ids[row] for row in sample_S], queries_QU[sample_S], k
        )
        self._stats |= agreement(run, exact)
        return run

    def _found(self, queries_QU: sparse.csr_matrix, k: int) -> list[list[int]]:
        """Numbers of the documents that Seismic finds, by query."""
        cuts = queries_QU.indptr[1:-1]
        terms_Q = np.split(queries_QU.indices.astype(str).astype(self._token), cuts)
        numbers = np.arange(queries_QU.shape[0]).astype(str).astype(self._token)
        found_Q: list[list[int]] = [[] for _ in numbers]
        lists = self._index.batch_search(
            numbers,
            terms_Q,
            np.split(queries_QU.data, cuts),
            min(k, len(self._ids)),
            self._query_cut,
            self._heap_factor,
        )
        for hits in lists:  # in any order
            for query, _, document in hits:
                found_Q[int(query)].append(int(document))
        return found_Q
