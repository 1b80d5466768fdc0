"""Exact inner-product search over dense vectors, with torch on any device.

Shapes: N documents, M of one block, Q queries, B of one block, D dimensions, K hits, C candidates:
pairs of a query and a document.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from lion_sweep.files import written
from lion_sweep.machine import interruption, threads
from lion_sweep.search.base import Engine, Where, agreement, check_queries, checked_ids
from lion_sweep.search.parts import KEEP_SECONDS, Stored
from lion_sweep.search.runs import Run

_BLOCK_BYTES = 2**28  # of documents in float32 that are held at once, at most 65,536 of them
_PRODUCTS = 2**24  # of a block of queries with one of documents: 64 MiB; on a GPU four times that
_GATHERED = 2**24  # most float64 numbers of candidates' vectors held at once on a GPU: 128 MiB
_AGREEMENT_QUERIES = 32


class DenseIndex(Engine):
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
    streams = True
    on_block: Callable[[int, int], None] = staticmethod(lambda done, total: None)
    _folder: Path | None = None  # where a search that is killed has what it came to

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> Self:
        """With CUDA where it is at hand, on the CPU otherwise."""
        device = where.device if where.device.type == "cuda" else torch.device("cpu")
        made = cls(document_ids, documents, device, **settings)
        made.on_block, made._folder = where.step, where.folder
        return made

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
        found, compared = Best(self._rounded(queries_QD, "query"), k), Best(sample_SD, k)
        begun = _Begun(self._folder, found.keys_QK, compared.keys_QK)
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


class _Begun:
    """A search's keys as of some rows, kept every half minute where there is a folder for them."""

    def __init__(self, folder: Path | None, *keys: NDArray[np.uint64]) -> None:
        self._file, self._keys, self.rows = folder and folder / "begun.npz", keys, 0
        self._kept = time.monotonic()
        if self._file and self._file.is_file():
            with np.load(self._file) as arrays:
                self.rows = int(arrays["arr_0"])
                for number, of_search in enumerate(keys, start=1):
                    of_search[:] = arrays[f"arr_{number}"]

    def keep(self) -> None:
        """Raises `Interrupted` where the process is to stop."""
        stopping = interruption.requested()
        if self._file and (stopping or time.monotonic() - self._kept >= KEEP_SECONDS):
            with written(self._file, only_writer=True) as temporary, temporary.open("wb") as file:
                np.savez(file, np.array(self.rows), *self._keys)
            self._kept = time.monotonic()
        if stopping:
            raise interruption.stop()

    def end(self) -> None:
        """It is done."""
        if self._file:
            self._file.unlink(missing_ok=True)


def _tensor(vectors: NDArray[np.floating]) -> torch.Tensor:
    wide = np.float16 if vectors.dtype == np.float16 else np.float32
    return torch.from_numpy(np.ascontiguousarray(vectors, dtype=wide))


class Best:
    """The k best of the documents that were added, for each query.

    They are keys, [Q, K], the least first: a score's 32 bits, so changed that their order is that
    of the scores, then the complement of the document's number. A larger key comes first under the
    rule of ties, and 0 is no document.
    """

    def __init__(self, queries_QD: torch.Tensor, k: int) -> None:
        self._queries_QD = queries_QD
        self._norm_Q = torch.linalg.vector_norm(queries_QD.double(), dim=1)
        self.keys_QK = np.zeros((len(queries_QD), k), np.uint64)

    def add(self, documents_MD: torch.Tensor, number_M: NDArray[np.int64]) -> None:
        """Documents with their numbers, no two the same."""
        # Any order of summation is off by less than this (Higham, 2002, section 3.1), with room for
        # the roundings of the bound itself and of the final score.
        error = 1.01 * (documents_MD.shape[1] + 8) * 2.0**-24 * _largest_norm(documents_MD)
        products = _PRODUCTS * (4 if documents_MD.is_cuda else 1)  # tiles that a GPU has work with
        for first in range(0, len(self._queries_QD), size := max(1, products // len(number_M))):
            block = slice(first, first + size)
            queries_BD, keys_BK = self._queries_QD[block], self.keys_QK[block]
            kth_B = np.where(keys_BK[:, 0], _scores_of(keys_BK[:, 0]), -np.inf)
            least_B = torch.from_numpy(kth_B).to(queries_BD.device), error * self._norm_Q[block]
            pairs_C = _candidates(documents_MD, queries_BD, *least_B, keys_BK.shape[1])
            scores_C = _scores(documents_MD, queries_BD, *pairs_C)
            query_C, place_C = (places.cpu().numpy() for places in pairs_C)
            start_B = np.searchsorted(query_C, np.arange(len(keys_BK) + 1))
            threads.as_torch_has()
            _merge(keys_BK, _keys_of(scores_C, number_M[place_C]), start_B)

    def ranked(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """[Q, K] numbers and scores, best first; documents that there are at least k of."""
        keys_QK = np.sort(self.keys_QK, axis=1)[:, ::-1]
        return (~keys_QK).astype(np.uint32).astype(np.int32), _scores_of(keys_QK)


def _keys_of(scores_C: NDArray[np.float32], number_C: NDArray[np.int64]) -> NDArray[np.uint64]:
    bits_C = (scores_C + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0, as they are equal
    bits_C = np.where(bits_C >> 31, ~bits_C, bits_C | np.uint32(1 << 31))
    rest_C = np.uint64(2**32 - 1) - number_C.astype(np.uint64)
    return bits_C.astype(np.uint64) << np.uint64(32) | rest_C


def _scores_of(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    return np.where(bits >> 31, bits & np.uint32(2**31 - 1), ~bits).view(np.float32)


def _largest_norm(vectors_MD: torch.Tensor) -> float:
    parts = vectors_MD.split(2**11)
    norms = [torch.linalg.vector_norm(part.double(), dim=1).max() for part in parts]
    return float(torch.stack(norms).max())


def _products(queries_BD: torch.Tensor, documents_MD: torch.Tensor) -> torch.Tensor:
    """Matrix product summed in float32, whatever the vectors are stored in."""
    if documents_MD.is_cuda and documents_MD.dtype == queries_BD.dtype == torch.float16:
        return torch.mm(queries_BD, documents_MD.T, out_dtype=torch.float32)
    return queries_BD.float() @ documents_MD.float().T


def _candidates(
    documents_MD: torch.Tensor,
    queries_BD: torch.Tensor,
    kth_B: torch.Tensor,
    error_B: torch.Tensor,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """([C] queries, ascending, and documents) by their places, of what may be among the k best."""
    products_BM = _products(queries_BD, documents_MD)
    # Products that are not finite are not below either.
    candidates_BM = ~(products_BM < (kth_B - error_B).float()[:, None])
    if int(candidates_BM.sum()) > 2 * k * len(queries_BD):  # the first block, or a better one
        # So many of this block have scores up to `error` below their products.
        kth_B = torch.topk(products_BM, min(k, len(documents_MD)), sorted=False).values.amin(dim=1)
        candidates_BM &= ~(products_BM < (kth_B - 2 * error_B).float()[:, None])
    query_C, place_C = candidates_BM.nonzero(as_tuple=True)
    return query_C, place_C


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


@njit(cache=True, parallel=True)
def _merge(keys_BK, keys_C, start_B):  # type: ignore[no-untyped-def]
    """Have the largest keys of both in `keys_BK`, whose first is the least of its row."""
    for query in prange(len(keys_BK)):
        added = keys_C[start_B[query] : start_B[query + 1]]
        if len(added):
            both = np.concatenate((keys_BK[query], added))
            keys_BK[query] = np.partition(both, len(added))[len(added) :]
