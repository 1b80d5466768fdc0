"""The k best documents of each query, as blocks of documents go by: exact under the rule of ties.

Shapes: Q queries, B of one block, M documents of one block, K hits, C candidates: pairs of a query
and a document.
"""

import time
from pathlib import Path

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from lion_sweep.files import written
from lion_sweep.machine import interruption, threads
from lion_sweep.search.parts import KEEP_SECONDS


class Best:
    """The k best of the documents that were added, for each query.

    They are keys, [Q, K], the least first: a score's 32 bits, so changed that their order is that
    of the scores, then the complement of the document's number. A larger key comes first under the
    rule of ties, and 0 is no document.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.keys_QK = np.zeros((queries, k), np.uint64)

    def candidates(
        self, block: slice, products_BM: torch.Tensor, error_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """([C] queries of the block, ascending, and documents) that may be among the k best.

        `products_BM` are scores that are off by `error_B` at most.
        """
        least_B = self.keys_QK[block, 0]
        known_B = np.where(least_B, _scores_of(least_B), -np.inf)
        kth_B, k = torch.from_numpy(known_B).to(products_BM.device), self.keys_QK.shape[1]
        # Products that are not finite are not below either.
        candidates_BM = ~(products_BM < (kth_B - error_B).float()[:, None])
        if int(candidates_BM.sum()) > 2 * k * len(products_BM):  # the first block, or a better one
            # So many of this block have scores up to `error` below their products.
            top_BK = torch.topk(products_BM, min(k, products_BM.shape[1]), sorted=False).values
            kth_B = top_BK.amin(dim=1)
            candidates_BM &= ~(products_BM < (kth_B - 2 * error_B).float()[:, None])
        query_C, place_C = candidates_BM.nonzero(as_tuple=True)
        return query_C, place_C

    def take(
        self,
        block: slice,
        query_C: NDArray[np.int64],
        scores_C: NDArray[np.float32],
        number_C: NDArray[np.int64],
    ) -> None:
        """Scores of candidates, by the queries' places in the block and the documents' numbers."""
        keys_BK = self.keys_QK[block]
        start_B = np.searchsorted(query_C, np.arange(len(keys_BK) + 1))
        threads.as_torch_has()
        _merge(keys_BK, _keys_of(scores_C, number_C), start_B)

    def ranked(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """[Q, K] numbers and scores, best first; documents that there are at least k of."""
        keys_QK = np.sort(self.keys_QK, axis=1)[:, ::-1]
        return (~keys_QK).astype(np.uint32).astype(np.int32), _scores_of(keys_QK)


class Begun:
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


def _keys_of(scores_C: NDArray[np.float32], number_C: NDArray[np.int64]) -> NDArray[np.uint64]:
    bits_C = (scores_C + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0, as they are equal
    bits_C = np.where(bits_C >> 31, ~bits_C, bits_C | np.uint32(1 << 31))
    rest_C = np.uint64(2**32 - 1) - number_C.astype(np.uint64)
    return bits_C.astype(np.uint64) << np.uint64(32) | rest_C


def _scores_of(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    return np.where(bits >> 31, bits & np.uint32(2**31 - 1), ~bits).view(np.float32)


@njit(cache=True, parallel=True)
def _merge(keys_BK, keys_C, start_B):  # type: ignore[no-untyped-def]
    """Have the largest keys of both in `keys_BK`, whose first is the least of its row."""
    for query in prange(len(keys_BK)):
        added = keys_C[start_B[query] : start_B[query + 1]]
        if len(added):
            both = np.concatenate((keys_BK[query], added))
            keys_BK[query] = np.partition(both, len(added))[len(added) :]
