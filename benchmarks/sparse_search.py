"""Exact sparse search, against the algorithm of the released study.

`python -m benchmarks.sparse_search`. Vectors are synthetic: terms by Zipf's law, 60 to 120 drawn
for a document and 24 for a query, gamma weights. Terms are independent, unlike those of texts.

The study's code scores a query into an array of all documents, takes those above 0 with argwhere
and sorts partially; it is written anew here (numba, threads share the postings of a term), and
once more with a thread per query, so that nothing hangs on how its threads are used.

Shapes: N documents, V vocabulary, P postings, Q queries, K hits.
"""

import argparse
import resource
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numba import njit, prange
from scipy import sparse

from benchmarks import interleaved
from lion_sweep.search.runs import Run
from lion_sweep.search.sparse import SparseIndex

VOCABULARY = 30_522
K = 1_000


def synthetic(random: np.random.Generator, rows: int, fewest: int, most: int) -> sparse.csr_matrix:
    """float32 vectors with that many terms drawn for a row; terms drawn twice count once."""
    share_V = 1 / (np.arange(VOCABULARY) + 30.0)
    blocks = []
    for start in range(0, rows, 100_000):
        sizes = random.integers(fewest, most + 1, min(100_000, rows - start))
        terms = random.choice(VOCABULARY, sizes.sum(), p=share_V / share_V.sum())
        weights = random.gamma(2.0, 0.5, len(terms)).astype(np.float32)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        block = sparse.csr_matrix(
            (weights, terms.astype(np.int32), starts), (len(sizes), VOCABULARY)
        )
        block.sum_duplicates()
        blocks.append(block)
    return sparse.vstack(blocks, format="csr")


def _above_zero(start_V, document_P, weight_P, terms, weights, documents):  # type: ignore[no-untyped-def]
    scores_N = np.zeros(documents, dtype=np.float32)
    for place in range(len(terms)):
        start, end = start_V[terms[place]], start_V[terms[place] + 1]
        for posting in prange(start, end):
            scores_N[document_P[posting]] += weights[place] * weight_P[posting]
    found = np.argwhere(scores_N > 0)[:, 0]
    return found, scores_N[found]


shared_postings = njit(nogil=True, parallel=True)(_above_zero)
one_thread = njit(nogil=True)(_above_zero)


class Study:
    """Postings by term, and the study's way through them."""

    def __init__(self, vectors_NV: sparse.csr_matrix) -> None:
        by_term = vectors_NV.tocsc()
        self.documents = vectors_NV.shape[0]
        self.postings = (by_term.indptr, by_term.indices, by_term.data)

    def _hits(self, kernel, terms, weights):  # type: ignore[no-untyped-def]
        found, scores = kernel(*self.postings, terms, weights, self.documents)
        if len(found) > K:
            kept = np.argpartition(-scores, K)[:K]
            found, scores = found[kept], scores[kept]
        order = np.argsort(-scores)
        return found[order], scores[order]

    def search(self, queries_QV: sparse.csr_matrix, threads: int) -> list:
        """(documents, scores) of every query; with one thread, threads share the postings."""
        kernel = one_thread if threads > 1 else shared_postings
        rows = [queries_QV[row] for row in range(queries_QV.shape[0])]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda row: self._hits(kernel, row.indices, row.data), rows))


def check(run: Run, studies: list[list], queries_QV: sparse.csr_matrix, index: Study) -> None:
    """The run is scipy's product sorted as a whole, ties included; the study has its scores."""
    start_V, document_P, weight_P = index.postings
    postings_VN = sparse.csr_matrix((weight_P, document_P, start_V), (VOCABULARY, index.documents))
    for row, scores_K in enumerate(run.scores_QK):
        scores_N = (queries_QV[row] @ postings_VN).toarray()[0]
        expected_K = np.lexsort((np.arange(len(scores_N)), -scores_N))[:K]
        same = np.array_equal(run.documents_QK[row], expected_K)
        same &= np.array_equal(scores_K, scores_N[expected_K])
        same &= all(np.array_equal(scores_K, study[row][1]) for study in studies)
        if not same:
            raise SystemExit(f"Query {row}: the sides differ, nothing was timed.")


def main() -> None:
    """Check that all sides agree, then time them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    threads = numba.get_num_threads()
    random = np.random.default_rng(0)
    documents_NV = synthetic(random, options.documents, 60, 120)
    queries_QV = synthetic(random, options.queries, 24, 24)
    study = Study(documents_NV)
    index = SparseIndex([f"{number:08}" for number in range(options.documents)], documents_NV)
    query_ids = [str(row) for row in range(options.queries)]
    del documents_NV
    studies = [study.search(queries_QV, ways) for ways in (1, threads)]
    check(index.search(query_ids, queries_QV, K), studies, queries_QV, study)
    sides = {
        "blocks of documents": lambda: index.search(query_ids, queries_QV, K),
        "study, threads share a term": lambda: study.search(queries_QV, 1),
        "study, a thread per query": lambda: study.search(queries_QV, threads),
    }
    measured = interleaved.seconds(sides, options.rounds)
    stats = index.stats()
    lengths_V = np.diff(study.postings[0])
    peak_KiB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    interleaved.report(
        measured,
        checked="documents and scores of scipy's CSR product, ties included; the study's scores",
        packages=["numpy", "numba", "scipy"],
        facts={
            **vars(options),
            "threads": threads,
            "terms per document": round(stats["L0_documents"], 1),
            "postings per query": int(lengths_V[queries_QV.indices].sum() / options.queries),
            "index, MB": round(stats["index_bytes"] / 1e6),
            "study's index, MB": round(sum(array.nbytes for array in study.postings) / 1e6),
            "hits and candidates, MB": round((40 * K * options.queries + 1e6 * threads) / 1e6, 1),
            "peak of the process, MB": round(peak_KiB * 1024 / 1e6),
        },
    )


if __name__ == "__main__":
    main()
