"""Building the index of exact sparse search, against lists that grow by one posting at a time.

`python -m benchmarks.index_build`. The vectors are those of `sparse_search`. The study's indexer
takes the active entries of a batch of passages and appends document and weight to the lists of the
term, posting by posting; when all are there, every list becomes an array. It is written anew here,
on plain Python numbers, which append fastest. Neither side writes files.

Shapes: N documents, V vocabulary, P postings.
"""

import argparse
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks import interleaved
from benchmarks.sparse_search import synthetic
from lion_sweep.search.postings import BLOCK
from lion_sweep.search.sparse import SparseIndex

Postings = dict[int, tuple[NDArray[np.int32], NDArray[np.float32]]]  # of every term in use
BATCH = 64  # passages whose vectors are there at once


def one_by_one(vectors_NV: sparse.csr_matrix) -> Postings:
    """The study's way."""
    documents: dict[int, list[int]] = defaultdict(list)
    weights: dict[int, list[float]] = defaultdict(list)
    for first in range(0, vectors_NV.shape[0], BATCH):
        batch = vectors_NV[first : first + BATCH].tocoo()
        active = (batch.row + first).tolist(), batch.col.tolist(), batch.data.tolist()
        for document, term, weight in zip(*active, strict=True):
            documents[term].append(document)
            weights[term].append(weight)
    return {
        term: (np.array(documents[term], np.int32), np.array(weights[term], np.float32))
        for term in documents
    }


def check(index: SparseIndex, postings: Postings, documents: int, terms: int) -> None:
    """The index holds the same documents and weights for every term."""
    blocks = []
    for term_U, start_U, _, weight_P, document_P in index._postings:
        start_V = start_U[np.searchsorted(term_U, np.arange(terms + 1))].astype(np.int64)
        arrays = weight_P, document_P[: len(weight_P)].astype(np.int32), start_V
        # The rows of a block that are not there stand at the end of the last one.
        blocks.append(sparse.csc_matrix(arrays, (BLOCK, terms)))
    whole = sparse.vstack(blocks, format="csc")[:documents]
    found = {
        term: (whole.indices[start:end], whole.data[start:end])
        for term, (start, end) in enumerate(zip(whole.indptr, whole.indptr[1:], strict=False))
        if end > start
    }
    same = found.keys() == postings.keys() and all(
        np.array_equal(one, other)
        for term, pair in postings.items()
        for one, other in zip(found[term], pair, strict=True)
    )
    if not same:
        raise SystemExit("The indexes hold other postings: nothing was timed.")


def main() -> None:
    """Check that both indexes hold the same, then time how they are built."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=25_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    vectors_NV = synthetic(np.random.default_rng(0), options.documents, 60, 120)
    ids = [f"{number:08}" for number in range(options.documents)]
    index = SparseIndex(ids, vectors_NV)
    check(index, one_by_one(vectors_NV), *vectors_NV.shape)
    sides = {
        "arrays": lambda: SparseIndex(ids, vectors_NV),
        "posting by posting": lambda: one_by_one(vectors_NV),
    }
    interleaved.report(
        interleaved.seconds(sides, options.rounds),
        checked="documents and weights of every term",
        packages=["numpy", "scipy"],
        facts={**vars(options), "postings": vectors_NV.nnz},
    )


if __name__ == "__main__":
    main()
