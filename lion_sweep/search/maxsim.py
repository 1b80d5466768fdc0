"""Exact MaxSim search over texts that have a vector per token, with torch on any device.

The score of a query and a document is, of each of the query's vectors, the largest inner product
with a vector of the document, summed (Khattab and Zaharia, ColBERT, SIGIR 2020). A document without
any vector has the least similarity of unit vectors, -1.

Shapes: N documents, M of one block, Q queries, B of one block, P dimensions, T vectors of some
texts, I of a query, J of a document, K hits, C candidates: pairs of a query and a document.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from lion_sweep.data.ragged import Ragged
from lion_sweep.machine import threads
from lion_sweep.models.multi_vector import NOTHING
from lion_sweep.search.base import StreamingEngine, check_queries, checked_ids
from lion_sweep.search.best import Begun, Best
from lion_sweep.search.parts import Stored
from lion_sweep.search.runs import Run

_BLOCK_BYTES = 2**28  # of documents' vectors in float32 that are held at once
_DOCUMENTS = 2**16  # of a block at most
_QUERY_VECTORS = 2**10  # of a block of queries, about
_PRODUCTS = 2**24  # of those with vectors of documents, at once: 64 MiB
_GATHERED = 2**24  # most float64 numbers of a product held at once on a GPU: 128 MiB


class MaxSimIndex(StreamingEngine):
    """Exhaustive and exact, in one pass over the documents.

    As `DenseIndex` does, matrix products in float32, with a bound on their rounding, find the
    candidates, whose scores are then computed in float64 and rounded to float32. So a score depends
    on its pair of texts alone, equal texts tie, and hits do not change with the batch of queries.

    Vectors are finite floats: `Ragged`, or `Stored`, which memory need not hold.
    """

    exact = True

    def __init__(
        self,
        document_ids: Sequence[str],
        vectors: Ragged | Stored,
        device: torch.device | str = "cpu",
    ) -> None:
        ids = checked_ids(document_ids, len(vectors))
        self._ids, self._rank_N = ids.ascending, ids.rank_N.astype(np.int64)
        self._vectors, self._device = vectors, torch.device(device)
        documents, dimensions = vectors.shape
        numbers = int(vectors.count_M.sum()) * dimensions
        index_bytes = numbers * min(4, vectors.dtype.itemsize)
        self._stats = {"documents": documents, "dimensions": dimensions, "index_bytes": index_bytes}

    def search(self, query_ids: Sequence[str], queries: Ragged, k: int) -> Run:
        """Return the k documents of highest MaxSim for each query."""
        check_queries(query_ids, len(queries), k)
        documents, dimensions = self._vectors.shape
        if queries.shape[1] != dimensions:
            raise ValueError(f"queries have {queries.shape[1]} dimensions, not {dimensions}")
        found = _MaxSims(_Texts(queries, self._device, "query"), min(k, documents))
        begun = Begun(self._folder, found.keys_QK)
        for start, block in self._blocks(begun.rows):
            found.add(
                _Texts(block, self._device, "document"),
                self._rank_N[start : start + len(block)],
            )
            begun.rows = start + len(block)
            self.on_block(begun.rows, documents)
            begun.keep()
        begun.end()
        return Run(list(query_ids), self._ids, *found.ranked())

    def _blocks(self, first: int) -> Iterator[tuple[int, Ragged]]:
        """(first row, its block), from row `first` on; of about as many vectors each."""
        documents, dimensions = self._vectors.shape
        until_N = np.cumsum(self._vectors.count_M)  # vectors up to and with each document's
        most = max(1, _BLOCK_BYTES // (4 * max(1, dimensions)))
        while first < documents:
            before = until_N[first - 1] if first else 0
            last = int(np.searchsorted(until_N, before + most, side="right"))
            last = min(max(first + 1, last), first + _DOCUMENTS, documents)
            if isinstance(self._vectors, Stored):
                yield first, self._vectors.rows(first, last)
            else:
                yield first, self._vectors[first:last]
            first = last


class _Texts:
    """Vectors of some texts on a device, and where each begins there. Raises `ValueError`."""

    def __init__(self, texts: Ragged, device: torch.device, name: str) -> None:
        wide_TP = np.ascontiguousarray(texts.vectors_TP, dtype=np.float32)
        self.start_M, self.count_M = texts.start_M, texts.count_M
        self.vectors_TP = torch.from_numpy(wide_TP).to(device)
        if not torch.isfinite(self.vectors_TP).all():
            raise ValueError(f"{name} vectors hold values that are not finite")
        self.norm_T = torch.linalg.vector_norm(self.vectors_TP.double(), dim=1)

    def __len__(self) -> int:
        return len(self.count_M)

    def padded(self, places: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of some texts, [C, J, P] in float64, and which are there, [C, J]."""
        count_C = self.count_M[places]
        place_J = np.arange(count_C.max(initial=1))
        there_CJ = place_J < count_C[:, None]
        row_CJ = np.where(there_CJ, self.start_M[places][:, None] + place_J, 0)
        device = self.vectors_TP.device
        found_CJP = self.vectors_TP[torch.from_numpy(row_CJ).to(device)].double()
        return found_CJP, torch.from_numpy(there_CJ).to(device)


class _MaxSims(Best):
    """The k best by MaxSim."""

    def __init__(self, queries: _Texts, k: int) -> None:
        super().__init__(len(queries), k)
        self._queries, device = queries, queries.vectors_TP.device
        query_T = np.repeat(np.arange(len(queries)), queries.count_M)
        self._query_T = torch.from_numpy(query_T).to(device)
        norm_Q = torch.zeros(len(queries), dtype=torch.float64, device=device)
        self._norm_Q = norm_Q.index_add(0, self._query_T, queries.norm_T)

    def add(self, documents: _Texts, number_M: NDArray[np.int64]) -> None:
        """Documents with their numbers, no two the same."""
        queries, start = self._queries, 0
        # As for inner products, once per vector of a query, and for the sum of these.
        terms = documents.vectors_TP.shape[1] + int(queries.count_M.max(initial=0)) + 8
        largest = float(documents.norm_T.max()) if len(documents.norm_T) else 0.0
        error_Q = 1.01 * terms * 2.0**-24 * largest * self._norm_Q
        while start < len(queries):
            until = queries.start_M[start] + _QUERY_VECTORS
            # The last that begins before so many vectors; one at least.
            block = slice(start, max(start + 1, int(np.searchsorted(queries.start_M[:-1], until))))
            pairs_C = self.candidates(block, self._products(block, documents), error_Q[block])
            query_C, place_C = (places.cpu().numpy() for places in pairs_C)
            scores_C = _scores(queries, query_C + start, documents, place_C)
            self.take(block, query_C, scores_C, number_M[place_C])
            start = block.stop

    def _products(self, block: slice, documents: _Texts) -> torch.Tensor:
        """[B, M], MaxSim in float32; documents of equal length together, so without padding."""
        queries, count_M = self._queries, documents.count_M
        first, last = queries.start_M[block.start], queries.start_M[block.stop]
        query_TP = queries.vectors_TP[first:last]
        best_TM = query_TP.new_full((len(query_TP), len(count_M)), NOTHING)
        order_M = np.argsort(count_M, kind="stable")
        lengths, starts = np.unique(count_M[order_M], return_index=True)
        for length, place_M in zip(lengths.tolist(), np.split(order_M, starts[1:]), strict=True):
            at_once = max(1, _PRODUCTS // max(1, len(query_TP) * length))
            for begin in range(0, len(place_M) if length else 0, at_once):
                place_G = place_M[begin : begin + at_once]
                row_GJ = documents.start_M[place_G][:, None] + np.arange(length)
                row_T = torch.from_numpy(row_GJ.ravel()).to(query_TP.device)
                products_TT = query_TP @ documents.vectors_TP[row_T].T
                best_TG = products_TT.unflatten(1, (len(place_G), length)).amax(dim=2)
                best_TM[:, torch.from_numpy(place_G).to(query_TP.device)] = best_TG
        total_BM = query_TP.new_zeros((block.stop - block.start, len(count_M)))
        return total_BM.index_add_(0, self._query_T[first:last] - block.start, best_TM)


def _scores(
    queries: _Texts, query_C: NDArray[np.int64], documents: _Texts, place_C: NDArray[np.int64]
) -> NDArray[np.float32]:
    """[C] scores of the candidates, each computed in float64 by itself."""
    if queries.vectors_TP.device.type == "cpu":
        threads.as_torch_has()
        of_queries = queries.vectors_TP.numpy(), queries.start_M
        of_documents = documents.vectors_TP.numpy(), documents.start_M
        found_C: NDArray[np.float32] = _pair_sums(*of_queries, *of_documents, query_C, place_C)
        return found_C
    return _gathered_scores(queries, query_C, documents, place_C)


def _gathered_scores(
    queries: _Texts, query_C: NDArray[np.int64], documents: _Texts, place_C: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The same with torch's own sums, as a GPU has no others."""
    longest = int(documents.count_M.max(initial=1)) * queries.vectors_TP.shape[1]
    at_once = max(1, _GATHERED // max(1, longest))
    scores_C = [torch.zeros(0)]
    for begin in range(0, len(query_C), at_once):
        part = slice(begin, begin + at_once)
        query_CIP, asked_CI = queries.padded(query_C[part])
        document_CJP, there_CJ = documents.padded(place_C[part])
        total_C = query_CIP.new_zeros(len(query_CIP))
        for vector_CP, asked_C in zip(query_CIP.unbind(1), asked_CI.unbind(1), strict=True):
            # No matrix product here: its blocks would let a row's place change the last bits.
            similar_CJ = (vector_CP[:, None] * document_CJP).sum(dim=2)
            best_C = similar_CJ.masked_fill(~there_CJ, -torch.inf).amax(dim=1)
            best_C = torch.where(there_CJ.any(dim=1), best_C, NOTHING)
            total_C += torch.where(asked_C, best_C, 0.0)
        scores_C.append(total_C.float().cpu())
    return torch.cat(scores_C).numpy()


# Sums may be reordered for vector instructions, but in one way for all pairs.
@njit(cache=True, parallel=True, fastmath={"reassoc", "nsz"})
def _pair_sums(query_TP, query_start, document_TP, document_start, query_C, place_C):  # type: ignore[no-untyped-def]
    scores_C = np.empty(len(query_C), dtype=np.float32)
    for pair in prange(len(query_C)):
        query, place, total = query_C[pair], place_C[pair], 0.0
        first, last = document_start[place], document_start[place + 1]
        for row in range(query_start[query], query_start[query + 1]):
            query_P, best = query_TP[row], NOTHING
            for other in range(first, last):
                document_P, similar = document_TP[other], 0.0
                for dimension in range(len(query_P)):
                    similar += np.float64(query_P[dimension]) * np.float64(document_P[dimension])
                if other == first or similar > best:
                    best = similar
            total += best
        scores_C[pair] = total
    return scores_C
