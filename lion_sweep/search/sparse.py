"""Exact inner-product search over sparse vectors, by an inverted index.

Shapes: N documents, V vocabulary, Q queries.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy import sparse

from lion_sweep.search.base import Engine, Where, check_queries, checked_ids
from lion_sweep.search.parts import Stored
from lion_sweep.search.postings import INTEGERS, Postings, Queries, weights
from lion_sweep.search.runs import Run

INDEX = "index"  # of a folder that an index may use


class SparseIndex(Engine):
    """Posting lists of vectors that are there, [N, V] CSR, or that `Postings.write` has written.

    Weights and scores are float32: a score adds one product per term, in ascending order of
    terms, as scipy's product of CSR matrices does. It is the same for every k, batch of queries
    and number of threads, and equal vectors tie. Sums of integers are exact up to 2**24. From
    vectors of an integer type, weights and scores are integers, exact below 2**32.

    Weights are finite and not negative, integers below 2**32. A search adds 16 K bytes per query
    for the hits.
    """

    exact = streams = True

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> Self:
        """In the folder where vectors are `Stored`, which memory need not hold."""
        if not isinstance(documents, Stored):
            return cls(document_ids, documents, **settings)
        shape, folder = (len(documents), documents.shape[1]), where.folder / INDEX
        return cls(document_ids, Postings.write(folder, documents.rows, shape, where.step))

    def __init__(
        self, document_ids: Sequence[str], vectors_NV: sparse.csr_matrix | Postings
    ) -> None:
        rows = len(vectors_NV) if isinstance(vectors_NV, Postings) else vectors_NV.shape[0]
        self._ids = checked_ids(document_ids, rows)
        self._postings = vectors_NV if isinstance(vectors_NV, Postings) else Postings.of(vectors_NV)
        self._stats = self._postings.stats

    def search(self, query_ids: Sequence[str], vectors_QV: sparse.csr_matrix, k: int) -> Run:
        """Return the k documents of highest inner product above 0 for each query.

        Weights are integers where the documents' are. Raises `ValueError` where `Engine.search`
        does, for other types, and where a sum of integers could reach 2**32.
        """
        check_queries(query_ids, vectors_QV.shape[0], k)
        postings, terms = self._postings, vectors_QV.shape[1]
        if terms != postings.terms:
            raise ValueError(f"queries have {terms} terms, the index {postings.terms}")
        vectors_QV = weights(vectors_QV)
        if vectors_QV.dtype != postings.dtype:
            raise ValueError("queries and documents must both have integer weights, or neither")
        if vectors_QV.dtype == np.uint32:
            largest = int(vectors_QV.sum(axis=1).max()) * int(postings.largest)
            if largest >= INTEGERS:
                raise ValueError(f"a score could reach {largest}: use smaller integers, or floats")
        queries = Queries(vectors_QV.indptr, vectors_QV.indices, vectors_QV.data)
        return postings.run(query_ids, queries, k, self._ids)
