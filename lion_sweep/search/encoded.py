"""A collection's vectors, documents and queries together, as files for other engines hold them.

Shapes: N documents, Q queries, V vocabulary, D dimensions.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lion_sweep.search.dense import DenseIndex
from lion_sweep.search.encoding import Vectors
from lion_sweep.search.runs import Run, drop_self_hits
from lion_sweep.search.sparse import SparseIndex

Row = tuple[str, dict[str, float] | list[float]]  # an id; weights by term, or all numbers


@dataclass(frozen=True, eq=False)
class Encoded:
    """Vectors of a collection's documents and of some queries, with distinct ids."""

    document_ids: Sequence[str]  # [N]
    documents: Vectors  # [N, V] CSR, float32 or integers, or [N, D] float32
    query_ids: Sequence[str]  # [Q]
    queries: Vectors  # [Q, V] or [Q, D], as the documents

    @property
    def is_sparse(self) -> bool:
        """Whether vectors are over the vocabulary."""
        return sparse.issparse(self.documents)

    def search(self, depth: int) -> Run:
        """Exact search as a cell's: `depth` hits, then no query finds itself."""
        index = (SparseIndex if self.is_sparse else DenseIndex)(self.document_ids, self.documents)
        return drop_self_hits(index.search(self.query_ids, self.queries, depth))

    def with_terms(self) -> "Encoded":
        """The same without the sparse queries that have no term: engines refuse those."""
        if not self.is_sparse:
            return self
        asked = np.flatnonzero(self.queries.getnnz(axis=1))
        ids = [self.query_ids[row] for row in asked.tolist()]
        return replace(self, query_ids=ids, queries=self.queries[asked])

    def matches(self, documents: Iterable[Row], queries: Iterable[Row]) -> bool:
        """Whether rows that were read are these: ids, their order and every number."""
        of_documents = _match(documents, self.document_ids, self.documents)
        return of_documents and _match(queries, self.query_ids, self.queries)


def _match(rows: Iterable[Row], ids: Sequence[str], vectors: Vectors) -> bool:
    read = 0
    for read, (row_id, row) in enumerate(rows, start=1):
        if read > len(ids) or row_id != ids[read - 1]:
            return False
        terms, numbers = _row(vectors, read - 1)
        found = (list(row), list(row.values())) if isinstance(row, dict) else ([], row)
        if found[0] != terms or not np.array_equal(np.array(found[1], numbers.dtype), numbers):
            return False
    return read == len(ids)


def _row(vectors: Vectors, row: int) -> tuple[list[str], NDArray]:
    """(terms, their weights) of a row; of a dense one (none, all its numbers)."""
    if not sparse.issparse(vectors):
        return [], vectors[row]
    entries = slice(vectors.indptr[row], vectors.indptr[row + 1])
    # Analysis of any engine splits or drops some tokens, decimal token ids never.
    return list(map(str, vectors.indices[entries].tolist())), vectors.data[entries]


def weights_of(matrix: sparse.csr_matrix, row: int) -> dict[str, int]:
    """The integer weights of a row by term."""
    terms, weights = _row(matrix, row)
    return dict(zip(terms, weights.tolist(), strict=True))


def as_json(ids: Sequence[str], vectors: Vectors) -> Iterator[tuple[str, str]]:
    """Ids and rows as JSON: {term: weight}, or an array; float32 in the digits that it needs."""
    for row, row_id in enumerate(ids):
        terms, numbers = _row(vectors, row)
        texts = numbers.astype(str).tolist()
        if sparse.issparse(vectors):
            texts = [f'"{term}": {text}' for term, text in zip(terms, texts, strict=True)]
        row_text = ", ".join(texts)
        yield json.dumps(row_id), f"{{{row_text}}}" if sparse.issparse(vectors) else f"[{row_text}]"
