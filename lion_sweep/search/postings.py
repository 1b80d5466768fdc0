"""Posting lists in memory or in a folder: learned sparse vectors and BM25 alike.

Documents keep the order in which they come, in blocks of 32,768. A block is one array of 32-bit
words, or a file of it, 000123.npy, which is mapped while it is searched and appears whole:

    U, P, 1 where weights are uint32 and 0 where float32
    [U] terms in use, ascending; [U + 1] first posting of each; [U] largest weight of each
    [P] weights; [P] numbers of documents, counted from the block's first, two of 16 bits to a word

Shapes: N documents, V vocabulary, U terms in a block, P postings, Q queries, T terms of all
queries, K hits per query, M pairs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lion_sweep.data.ids import Ids
from lion_sweep.files import read_json, write_json, written
from lion_sweep.machine import interruption, threads
from lion_sweep.machine.seal import mark, marked, unmark
from lion_sweep.search import kernels
from lion_sweep.search.runs import NO_HIT, Run

BLOCK = 2**15  # documents: accumulators of 128 KiB. At most 2**16, for numbers of 16 bits
STATS = "postings.json"  # written last
INTEGERS = 2**32  # weights and scores of integers stay below
_HEAD = 3

Words = NDArray[np.uint32]
Found = tuple[NDArray[np.int32], NDArray[np.floating]]
Step = Callable[[int, int], None]  # (done, total)


class Queries(NamedTuple):
    """Terms of queries, in the order in which products are summed; one may occur twice."""

    start_Q: NDArray[np.integer]  # [Q + 1]
    term_T: NDArray[np.integer]
    weight_T: NDArray[np.float32] | NDArray[np.uint32]  # as the documents'

    def compiled(self) -> "Queries":
        """The same in the types that kernels are compiled for."""
        return Queries(self.start_Q.astype(np.int64), self.term_T.astype(np.uint32), self.weight_T)


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


def weights(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Canonical CSR of float32 or, from integers, of uint32."""
    matrix = non_negative_csr(matrix)
    if not np.issubdtype(matrix.dtype, np.integer):
        return matrix.astype(np.float32)
    if matrix.data.max(initial=0) >= INTEGERS:
        raise ValueError(f"integer weights go up to {INTEGERS - 1}, not {matrix.data.max()}")
    return matrix.astype(np.uint32)


def postings_stats(documents: int, terms: int, stored: int, index_bytes: int) -> dict[str, float]:
    """Return the statistics of an inverted index; `terms` are those in use."""
    return {
        "documents": documents,
        "terms": terms,
        "postings": stored,
        "index_bytes": index_bytes,
        "L0_documents": stored / documents,
    }


def _packed(rows: sparse.csr_matrix) -> Words:
    """The block of these documents."""
    by_term = weights(rows).tocsc()
    used_U = np.flatnonzero(np.diff(by_term.indptr))
    start_U = by_term.indptr[np.append(used_U, -1)]
    most_U = np.maximum.reduceat(by_term.data, start_U[:-1]) if len(used_U) else by_term.data
    document_P = by_term.indices.astype(np.uint16)
    head = len(used_U), by_term.nnz, by_term.dtype == np.uint32
    parts = (head, used_U, start_U)
    return np.concatenate([
        *(np.asarray(part, dtype=np.uint32) for part in parts),
        *(part.view(np.uint32) for part in (most_U, by_term.data)),
        np.pad(document_P, (0, len(document_P) % 2)).view(np.uint32),
    ])  # fmt: skip


def _unpacked(words: Words) -> tuple[NDArray, ...]:
    """Terms, starts, largest weights, weights and documents, as the kernels take them."""
    terms, stored, integers = map(int, words[:_HEAD])
    ends = np.cumsum([terms, terms + 1, terms, stored])
    term_U, start_U, most_U, weight_P, pairs = np.split(words[_HEAD:], ends)
    dtype = np.uint32 if integers else np.float32
    return term_U, start_U, most_U.view(dtype), weight_P.view(dtype), pairs.view(np.uint16)


class Postings:
    """An inverted index of N documents' vectors, [N, V].

    Weights and scores are float32, or uint32 where the vectors' are integers. A posting takes 6
    bytes, and a term 12 in every block that has it.
    """

    def __init__(self, blocks: Sequence[Words] | Sequence[Path], stats: dict[str, float]) -> None:
        self._blocks, self.stats = blocks, dict(stats)
        first = next(iter(self))
        self.dtype, self.block = first[3].dtype, int(self.stats.pop("block"))
        self.terms = int(self.stats.pop("vocabulary"))
        self.largest = self.stats.pop("largest")

    def __iter__(self) -> Iterator[tuple[NDArray, ...]]:
        for block in self._blocks:
            words = np.load(block, mmap_mode="r") if isinstance(block, Path) else block
            yield _unpacked(np.asarray(words))

    def __len__(self) -> int:
        return int(self.stats["documents"])

    @classmethod
    def of(cls, vectors_NV: sparse.csr_matrix) -> "Postings":
        """Those of vectors that are there, in memory."""
        vectors_NV, documents = sparse.csr_matrix(vectors_NV), vectors_NV.shape[0]
        starts = range(0, documents, BLOCK)
        blocks = [_packed(vectors_NV[start : start + BLOCK]) for start in starts]
        for block in blocks:
            block.flags.writeable = False  # as those of files, so that kernels compile once
        return cls(blocks, _stats(blocks, documents, vectors_NV.shape[1]))

    @classmethod
    def write(
        cls,
        folder: Path,
        rows: Callable[[int, int], sparse.csr_matrix],
        shape: tuple[int, int],
        on_step: Step = lambda done, total: None,
    ) -> "Postings":
        """Those of N vectors, which `rows(start, stop)` makes block by block, in a folder.

        Blocks that are there, whole, are not made again. Raises `Interrupted` after a block where
        the job is asked to stop.
        """
        documents, vocabulary = shape
        folder.mkdir(parents=True, exist_ok=True)
        paths = _paths(folder, documents, BLOCK)
        for path, start in zip(paths, range(0, documents, BLOCK), strict=True):
            stop = min(start + BLOCK, documents)
            if not marked(path):
                with written(path, only_writer=True) as temporary, temporary.open("wb") as file:
                    np.save(file, _packed(rows(start, stop)))
                mark(path)
            on_step(stop, documents)
            if interruption.requested():
                raise interruption.stop()
        blocks = (np.load(path, mmap_mode="r") for path in paths)
        write_json(folder / STATS, _stats(blocks, documents, vocabulary))
        for path in paths:
            unmark(path)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Postings":
        """Those that `write` wrote."""
        stats = read_json(folder / STATS)
        return cls(_paths(folder, stats["documents"], stats["block"]), stats)

    def search(self, queries: Queries, k: int, rank_N: NDArray[np.uint32]) -> Found:
        """Ranks by id and scores of the k best documents of each query, [Q, K] each, best first.

        `NO_HIT` and -inf stand after the last hit; scores are float32, or float64 of integers.
        """
        count, k = len(queries.start_Q) - 1, min(k, len(self))
        keys_QC, kept_Q2 = np.zeros((count, 2 * k), np.uint64), np.zeros((count, 2), np.uint64)
        threads.as_torch_has()
        for number, block in enumerate(self):
            own = rank_N[number * self.block :][: self.block]
            kernels.search(block, own, *queries.compiled(), keys_QC, kept_Q2)
        keys_QC.sort(axis=1)
        keys_QK = keys_QC[:, : -k - 1 : -1]
        ranks_QK = (~keys_QK).astype(np.uint32).view(np.int32)  # of the key 0: NO_HIT
        scores_QK = (keys_QK >> np.uint64(32)).astype(np.uint32).view(self.dtype)
        scores_QK = scores_QK.astype(np.result_type(scores_QK, np.float32), copy=False)
        scores_QK[ranks_QK == NO_HIT] = -np.inf
        return ranks_QK, scores_QK

    def run(self, query_ids: Sequence[str], queries: Queries, k: int, ids: Ids) -> Run:
        """The same as a run."""
        ranks_QK, scores_QK = self.search(queries, k, ids.rank_N)
        return Run(list(query_ids), ids.ascending, ranks_QK, scores_QK)

    def scores(
        self, queries: Queries, query_M: NDArray[np.integer], document_M: NDArray[np.integer]
    ) -> NDArray[np.float32] | NDArray[np.uint32]:
        """The score of each pair of a query's and a document's number, [M]."""
        score_M = np.zeros(len(query_M), dtype=self.dtype)
        block_M = document_M // self.block
        for number, block in enumerate(self):
            own = np.flatnonzero(block_M == number)
            numbers = query_M[own], document_M[own] % self.block
            found = np.zeros(len(own), dtype=self.dtype)
            kernels.pairs(block, *queries.compiled(), *numbers, found)
            score_M[own] = found
        return score_M


def _paths(folder: Path, documents: int, block: int) -> list[Path]:
    return [folder / f"{number:06}.npy" for number in range(-(-documents // block))]


def _stats(blocks: Iterable[Words], documents: int, vocabulary: int) -> dict[str, float]:
    used_V = np.zeros(vocabulary, dtype=bool)
    stored, words, largest = 0, 0, 0.0
    for block in blocks:
        term_U, _, most_U, weight_P, _ = _unpacked(np.asarray(block))
        used_V[term_U] = True
        stored, words = stored + len(weight_P), words + block.nbytes
        largest = max(largest, most_U.max(initial=0).item())
    known = postings_stats(documents, int(used_V.sum()), stored, words)
    return known | {"block": BLOCK, "vocabulary": vocabulary, "largest": largest}
