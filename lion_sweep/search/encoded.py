"""A collection's vectors, documents and queries together, as files for other engines hold them.

Shapes: N documents, Q queries, V vocabulary, D dimensions, R rows of either.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from lion_sweep.search.dense import DenseIndex
from lion_sweep.search.encoding import Vectors
from lion_sweep.search.runs import Run, drop_self_hits
from lion_sweep.search.sparse import SparseIndex


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

    @property
    def terms(self) -> int | None:
        """V of sparse vectors, None of dense ones."""
        return self.documents.shape[1] if self.is_sparse else None

    def search(self, depth: int) -> Run:
        """Exact search as a cell's: `depth` hits, then no query finds itself."""
        index = (SparseIndex if self.is_sparse else DenseIndex)(self.document_ids, self.documents)
        return drop_self_hits(index.search(self.query_ids, self.queries, depth))

    def with_terms(self) -> Encoded:
        """The same without the queries that have no term: engines refuse those."""
        asked = np.flatnonzero(self.queries.getnnz(axis=1))
        ids = [self.query_ids[row] for row in asked.tolist()]
        return Encoded(self.document_ids, self.documents, ids, self.queries[asked])

    def equals(self, other: Encoded) -> bool:
        """Whether ids, their order and every number are the same."""
        return (
            list(self.document_ids) == list(other.document_ids)
            and list(self.query_ids) == list(other.query_ids)
            and _equal(self.documents, other.documents)
            and _equal(self.queries, other.queries)
        )


def _equal(one: Vectors, other: Vectors) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if sparse.issparse(one):
        return bool((one != other).nnz == 0)
    return np.array_equal(one, other)


def weights_of(matrix: sparse.csr_matrix, row: int) -> dict[str, int]:
    """The integer weights of a row by term."""
    # Analysis of any engine splits or drops some tokens, decimal token ids never.
    entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
    terms = map(str, matrix.indices[entries].tolist())
    return dict(zip(terms, matrix.data[entries].tolist(), strict=True))


def as_json(vectors: Vectors, row: int) -> str:
    """A row as JSON: {term: weight}, or an array; float32 in the digits that it needs."""
    if not sparse.issparse(vectors):
        return f"[{', '.join(vectors[row].astype(str))}]"
    entries = slice(vectors.indptr[row], vectors.indptr[row + 1])
    weights = zip(vectors.indices[entries], vectors.data[entries].astype(str), strict=True)
    return "{" + ", ".join(f'"{term}": {weight}' for term, weight in weights) + "}"


def from_json(
    rows: Iterable[tuple[str, Mapping[str, float] | Sequence[float]]],
    terms: int | None,
    *,
    integers: bool,
) -> tuple[list[str], Vectors]:
    """Ids and vectors of parsed rows: CSR of `terms` columns, or [R, D] where that is None."""
    ids: list[str] = []
    values: Any = array("i" if integers else "f")
    columns, ends = array("i"), array("q", [0])
    for row_id, row in rows:
        ids.append(row_id)
        if isinstance(row, Mapping):
            columns.extend(map(int, row))
            row = list(row.values())
        values.extend(row)
        ends.append(len(values))
    data = np.asarray(values, dtype=np.int32 if integers else np.float32)
    if terms is None:
        return ids, data.reshape(len(ids), -1)
    entries = data, np.asarray(columns), np.asarray(ends)
    return ids, sparse.csr_matrix(entries, (len(ids), terms))
