"""Exact inner-product search over dense vectors, with torch on any device.

Shapes: N documents, M of one block, Q queries, B of one block, D dimensions, K hits, C candidates:
pairs of a query and a document.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from lion_sweep.machine import threads
from lion_sweep.search.base import StreamingEngine, agreement, check_queries, checked_ids
from lion_sweep.search.best import Begun, Best
from lion_sweep.search.parts import Stored
from lion_sweep.search.runs import Run

_BLOCK_BYTES = 2**28  # of documents in float32 that are held at once, at most 65,536 of them
_PRODUCTS = 2**24  # of a block of queries with one of documents: 64 MiB; on a GPU four times that
_GATHERED = 2**24  # most float64 numbers of candidates' vectors held at once on a GPU: 128 MiB
_AGREEMENT_QUERIES = 32


class DenseIndex(StreamingEngine):
    """Flat inner-product search: exhaustive and exact, in one pass over the documents.

    Documents come block by block, for all queries, and go again. A matrix product in float32, with
    a bound on its rounding, finds candidates: documents that may be among the k best so far. Their
    scores are then summed in float64 and rounded to float32. So a score depends on its pair of
    vectors alone, never on its place in a block: equal vectors tie, and hits do not change with the
    batch of queries.

    Vectors are finite floats, [N, D]: an array, or `Stored`, which memory need not hold; a search
    refuses others with `ValueError`. `device` multiplies. `half` searches them rounded to float16,
    whose range they must not exceed: exact on the rounded vectors, and `stats` tells what rounding
    changed: agreement_10 and agreement with the hits of the vectors as they are, averaged over the
    first 32 queries of the last search.
    """

    exact = True  # on the vectors, rounded where `half` is set

    def __init__(
        self,
        document_ids: Sequence[str],
        vectors_ND: NDArray[np.floating] | Stored,
        device: torch.device | str = "cpu",
        half: bool = False,
    ) -> None:
        if len(vectors_ND.shape) != 2:
            raise ValueError(f"document vectors have shape {vectors_ND.shape}")
        ids = checked_ids(document_ids, len(vectors_ND))
        self._ids, self._rank_N = ids.ascending, ids.rank_N.astype(np.int64)
        self._vectors_ND, self._device, self._half = vectors_ND, torch.device(device), half
        documents, dimensions = vectors_ND.shape
        index_bytes = documents * dimensions * (2 if half else min(4, vectors_ND.dtype.itemsize))
        self._stats = {"documents": documents, "dimensions": dimensions, "index_bytes": index_bytes}

    def search(self, query_ids: Sequence[str], vectors_QD: NDArray[np.floating], k: int) -> Run:
        """Return the k documents of highest inner product for each query."""
        check_queries(query_ids, len(vectors_QD), k)
        documents, dimensions = self._vectors_ND.shape
        if vectors_QD.shape[1:] != (dimensions,):
            raise ValueError(f"queries have {vectors_QD.shape[1]} dimensions, not {dimensions}")
        queries_QD = _tensor(vectors_QD).to(self._device)
        k, sample_SD = min(k, documents), queries_QD[:_AGREEMENT_QUERIES]
        found, compared = Products(self._rounded(queries_QD, "query"), k), Products(sample_SD, k)
        begun = Begun(self._folder, found.keys_QK, compared.keys_QK)
        for start, block_MD in self._blocks(begun.rows):
            rank_M = self._rank_N[start : start + len(block_MD)]
            found.add(self._rounded(block_MD, "document"), rank_M)
            if self._half:
                compared.add(block_MD.float(), rank_M)
            begun.rows = start + len(block_MD)
            self.on_block(begun.rows, documents)
            begun.keep()
        begun.end()
        run = Run(list(query_ids), self._ids, *found.ranked())
        if self._half and len(sample_SD):
            exact = Run(query_ids[: len(sample_SD)], self._ids, *compared.ranked())
            self._stats |= agreement(run, exact)
        return run

    def _blocks(self, first: int) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, its block on the device), from row `first` on."""
        documents, dimensions = self._vectors_ND.shape
        size = min(2**16, max(1, _BLOCK_BYTES // (4 * max(1, dimensions))))
        for start in range(first, documents, size):
            if isinstance(self._vectors_ND, Stored):
                block_MD = self._vectors_ND.rows(start, start + size)
            else:
                block_MD = self._vectors_ND[start : start + size]
            yield start, _tensor(block_MD).to(self._device)

    def _rounded(self, vectors_MD: torch.Tensor, name: str) -> torch.Tensor:
        """What is searched. On the CPU, which has no products of float16, its values in float32."""
        rounded_MD = vectors_MD.half() if self._half else vectors_MD
        if not torch.isfinite(rounded_MD).all():
            if torch.isfinite(vectors_MD).all():
                raise ValueError("half precision ends at 65,504, which a vector exceeds")
            raise ValueError(f"{name} vectors hold values that are not finite")
        return rounded_MD if self._device.type == "cuda" else rounded_MD.float()


def _tensor(vectors: NDArray[np.floating]) -> torch.Tensor:
    wide = np.float16 if vectors.dtype == np.float16 else np.float32
    return torch.from_numpy(np.ascontiguousarray(vectors, dtype=wide))


class Products(Best):
    """The k best by inner products with the queries."""

    def __init__(self, queries_QD: torch.Tensor, k: int) -> None:
        super().__init__(len(queries_QD), k)
        self._queries_QD = queries_QD
        self._norm_Q = torch.linalg.vector_norm(queries_QD.double(), dim=1)

    def add(self, documents_MD: torch.Tensor, number_M: NDArray[np.int64]) -> None:
        """Documents with their numbers, no two the same."""
        # Any order of summation is off by less than this (Higham, 2002, section 3.1), with room for
        # the roundings of the bound itself and of the final score.
        error = 1.01 * (documents_MD.shape[1] + 8) * 2.0**-24 * _largest_norm(documents_MD)
        products = _PRODUCTS * (4 if documents_MD.is_cuda else 1)  # tiles that a GPU has work with
        for first in range(0, len(self._queries_QD), size := max(1, products // len(number_M))):
            block = slice(first, first + size)
            queries_BD = self._queries_QD[block]
            products_BM = _products(queries_BD, documents_MD)
            pairs_C = self.candidates(block, products_BM, error * self._norm_Q[block])
            scores_C = _scores(documents_MD, queries_BD, *pairs_C)
            query_C, place_C = (places.cpu().numpy() for places in pairs_C)
            self.take(block, query_C, scores_C, number_M[place_C])


def _largest_norm(vectors_MD: torch.Tensor) -> float:
    parts = vectors_MD.split(2**11)
    norms = [torch.linalg.vector_norm(part.double(), dim=1).max() for part in parts]
    return float(torch.stack(norms).max())


def _products(queries_BD: torch.Tensor, documents_MD: torch.Tensor) -> torch.Tensor:
    """Matrix product summed in float32, whatever the vectors are stored in."""
    if documents_MD.is_cuda and documents_MD.dtype == queries_BD.dtype == torch.float16:
        return torch.mm(queries_BD, documents_MD.T, out_dtype=torch.float32)
    return queries_BD.float() @ documents_MD.float().T


def _scores(
    documents_MD: torch.Tensor,
    queries_BD: torch.Tensor,
    query_C: torch.Tensor,
    place_C: torch.Tensor,
) -> NDArray[np.float32]:
    """[C] inner products of the candidates, each summed in float64 by itself."""
    if documents_MD.device.type == "cpu":
        threads.as_torch_has()
        wide = documents_MD.float().numpy(), queries_BD.float().numpy()
        return _pair_sums(*wide, query_C.numpy(), place_C.numpy())
    at_once = max(1, _GATHERED // max(1, documents_MD.shape[1]))
    scores_C = [
        # No matrix product here: its blocks would let a row's place change the last bits.
        (documents_MD[places].double() * queries_BD[queries].double()).sum(dim=1).float()
        for queries, places in zip(query_C.split(at_once), place_C.split(at_once), strict=True)
    ]
    return torch.cat(scores_C).cpu().numpy()


# Sums may be reordered for vector instructions, but in one way for all pairs.
@njit(cache=True, parallel=True, fastmath={"reassoc", "nsz"})
def _pair_sums(documents_MD, queries_BD, query_C, place_C):  # type: ignore[no-untyped-def]
    scores_C = np.empty(len(query_C), dtype=np.float32)
    for pair in prange(len(query_C)):
        query_D, document_D, total = queries_BD[query_C[pair]], documents_MD[place_C[pair]], 0.0
        for dimension in range(len(query_D)):
            total += np.float64(query_D[dimension]) * np.float64(document_D[dimension])
        scores_C[pair] = total
    return scores_C
