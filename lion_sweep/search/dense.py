"""Exact inner-product search over dense vectors, with torch on any device.

Shapes: N documents, Q queries, B queries of one block, D dimensions, C candidates, K hits.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from lion_sweep.machine import threads
from lion_sweep.search.base import Engine, Where, agreement, check_queries, sorted_documents
from lion_sweep.search.runs import Run

_QUERIES = 256  # of one block
_DOCUMENTS = 2**16  # of one block: with the queries, 64 MiB of products
_GATHERED = 2**24  # most float64 numbers of candidates' vectors held at once: 128 MiB
_SPARE = 32  # candidates fetched beyond k
_AGREEMENT_QUERIES = 32


def _float32_rows(vectors: NDArray[np.floating], name: str) -> torch.Tensor:
    if vectors.ndim != 2:
        raise ValueError(f"{name} vectors have shape {vectors.shape}, not [rows, dimensions]")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name} vectors hold values that are not finite")
    return torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))


def _products(queries_BD: torch.Tensor, documents_ND: torch.Tensor) -> torch.Tensor:
    """Matrix product summed in float32, whatever the vectors are stored in."""
    if documents_ND.dtype == torch.float16 and documents_ND.device.type == "cuda":
        return torch.mm(queries_BD, documents_ND.T, out_dtype=torch.float32)
    return queries_BD.float() @ documents_ND.float().T


class DenseIndex(Engine):
    """Flat inner-product index: exhaustive and exact.

    A block matrix product in float32 finds candidates, with a bound on its rounding; their scores
    are then summed in float64 and rounded to float32. So a score depends on its pair of vectors
    alone, never on its place in a block: equal vectors tie, and hits do not change with the batch
    of queries. A list is final once no document outside the candidates can belong to it; until
    then more candidates are fetched.

    Vectors are finite float32, [N, D]; `device` holds them and searches. `half` stores and searches
    them rounded to float16, whose range they must not exceed, in half the memory of the device: the
    search is exact on the rounded vectors. The float32 vectors stay in main memory, to tell in
    `stats` what rounding changed: agreement_10 and agreement with their hits, averaged over the
    first 32 queries of the last search.
    """

    exact = True  # on the vectors as it holds them

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> Self:
        """On the device where vectors and a search have room, on the CPU otherwise."""
        half = bool(settings.get("half"))
        device, why_not = device_for(documents.shape, where.device, half)
        if why_not:
            where.say(f"dense search on the CPU: {why_not}")
        return cls(document_ids, documents, device, half)

    def __init__(
        self,
        document_ids: Sequence[str],
        vectors_ND: NDArray[np.floating],
        device: torch.device | str = "cpu",
        half: bool = False,
    ) -> None:
        rows_ND = _float32_rows(vectors_ND, "document")
        self._ids, order_N = sorted_documents(document_ids, len(rows_ND))
        rows_ND = rows_ND[torch.from_numpy(order_N)]
        self._dtype = torch.float16 if half else torch.float32
        self._stored_ND = self._rounded(rows_ND).to(device)
        self._full_ND = rows_ND if half else self._stored_ND
        self._largest_norm = _largest_norm(self._stored_ND)
        documents, dimensions = rows_ND.shape
        index_bytes = self._stored_ND.nbytes  # on the device
        self._stats = {"documents": documents, "dimensions": dimensions, "index_bytes": index_bytes}

    def _rounded(self, vectors: torch.Tensor) -> torch.Tensor:
        rounded = vectors.to(self._dtype)
        if not torch.isfinite(rounded).all():
            raise ValueError("half precision ends at 65,504, which a vector exceeds")
        return rounded

    def search(self, query_ids: Sequence[str], vectors_QD: NDArray[np.floating], k: int) -> Run:
        """Return the k documents of highest inner product for each query."""
        rows_QD = _float32_rows(vectors_QD, "query")
        check_queries(query_ids, len(rows_QD), k)
        documents, dimensions = self._stored_ND.shape
        if rows_QD.shape[1] != dimensions:
            raise ValueError(f"queries have {rows_QD.shape[1]} dimensions, not {dimensions}")
        k = min(k, documents)
        stored_QD = self._rounded(rows_QD).to(self._stored_ND.device)
        hits = _search(self._stored_ND, stored_QD, k, self._largest_norm)
        run = Run(list(query_ids), self._ids, *hits)
        if self._dtype == torch.float16 and len(rows_QD):
            sample_QD = rows_QD[:_AGREEMENT_QUERIES]
            exact = _search(self._full_ND, sample_QD, k, _largest_norm(self._full_ND))
            self._stats |= agreement(run, Run(query_ids[: len(sample_QD)], self._ids, *exact))
        return run


def device_for(
    shape: tuple[int, ...], accelerator: torch.device, half: bool
) -> tuple[torch.device, str]:
    """Return where vectors of this shape can be searched, and why not on a CUDA accelerator.

    Its free memory must hold the vectors and the largest workspace of a search.
    """
    documents, dimensions = shape
    if accelerator.type != "cuda":
        return torch.device("cpu"), ""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(accelerator)
    norms = _DOCUMENTS * dimensions * 8  # a block in float64
    products = 4 * _QUERIES * _DOCUMENTS * 4  # and what finding the largest takes
    needed = documents * dimensions * (2 if half else 4) + max(norms, products + 3 * _GATHERED * 8)
    if needed <= free:
        return accelerator, ""
    return torch.device("cpu"), (
        f"{documents:,} vectors and their products need {needed / 2**30:.1f} GiB, and the GPU has "
        f"{free / 2**30:.1f} GiB left"
    )


def _largest_norm(vectors_ND: torch.Tensor) -> float:
    blocks = vectors_ND.split(_DOCUMENTS)
    return max(float(torch.linalg.vector_norm(block.double(), dim=1).max()) for block in blocks)


def _search(
    documents_ND: torch.Tensor, queries_QD: torch.Tensor, k: int, largest_norm: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """[Q, K] numbers and scores of the best documents; k is at most their number."""
    documents_QK = np.empty((len(queries_QD), k), dtype=np.int32)
    scores_QK = np.empty((len(queries_QD), k), dtype=np.float32)
    # Any order of summation is off by less than this (Higham, 2002, section 3.1), with room for
    # the roundings of the bound itself and of the final score.
    error = 1.01 * (documents_ND.shape[1] + 2) * 2.0**-24 * largest_norm
    for first in range(0, len(queries_QD), _QUERIES):
        pending = np.arange(first, min(first + _QUERIES, len(queries_QD)))
        fetched = min(k + _SPARE, len(documents_ND))
        while len(pending):
            block_BD = queries_QD[torch.from_numpy(pending).to(queries_QD.device)]
            products_BC, numbers_BC = _candidates(documents_ND, block_BD, fetched)
            scores_BC = _scores(documents_ND, block_BD, numbers_BC)
            found_BC = numbers_BC.cpu().numpy()
            order_BK = np.lexsort((found_BC, -scores_BC))[:, :k]
            found_BK = np.take_along_axis(found_BC, order_BK, axis=1)
            best_BK = np.take_along_axis(scores_BC, order_BK, axis=1)
            settled_B = np.ones(len(pending), dtype=bool)
            if fetched < len(documents_ND):  # a product outside is at most the last candidate's
                norm_B = torch.linalg.vector_norm(block_BD.double(), dim=1)
                bound_B = products_BC[:, -1].double() + error * norm_B
                settled_B = best_BK[:, -1] > bound_B.cpu().numpy()
            rows = pending[settled_B]
            documents_QK[rows], scores_QK[rows] = found_BK[settled_B], best_BK[settled_B]
            pending = pending[~settled_B]
            fetched = min(2 * fetched, len(documents_ND))
    return documents_QK, scores_QK


def _candidates(
    documents_ND: torch.Tensor, queries_BD: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, C] largest products, in descending order, and their documents' numbers."""
    best_BC = queries_BD.new_empty((len(queries_BD), 0), dtype=torch.float32)
    numbers_BC = queries_BD.new_empty((len(queries_BD), 0), dtype=torch.int64)
    for start in range(0, len(documents_ND), _DOCUMENTS):
        products = _products(queries_BD, documents_ND[start : start + _DOCUMENTS])
        products, places = products.topk(min(count, products.shape[1]), dim=1)
        best_BC = torch.cat([best_BC, products], dim=1)
        numbers_BC = torch.cat([numbers_BC, places + start], dim=1)
        best_BC, places = best_BC.topk(min(count, best_BC.shape[1]), dim=1)
        numbers_BC = numbers_BC.gather(1, places)
    return best_BC, numbers_BC


# Sums may be reordered for vector instructions, but in one way for all pairs.
@njit(cache=True, parallel=True, fastmath={"reassoc", "nsz"})
def _pair_sums(documents_ND, queries_BD, numbers_BC):  # type: ignore[no-untyped-def]
    scores_BC = np.empty(numbers_BC.shape, dtype=np.float32)
    for query in prange(len(queries_BD)):
        for place in range(numbers_BC.shape[1]):
            document_D, total = documents_ND[numbers_BC[query, place]], 0.0
            for dimension in range(queries_BD.shape[1]):
                product = np.float64(queries_BD[query, dimension])
                total += product * np.float64(document_D[dimension])
            scores_BC[query, place] = total
    return scores_BC


def _scores(
    documents_ND: torch.Tensor, queries_BD: torch.Tensor, numbers_BC: torch.Tensor
) -> NDArray[np.float32]:
    """[B, C] inner products of the candidates, each summed in float64 by itself."""
    if documents_ND.device.type == "cpu" and documents_ND.dtype == torch.float32:
        threads.as_torch_has()
        return _pair_sums(documents_ND.numpy(), queries_BD.numpy(), numbers_BC.numpy())
    at_once = max(1, _GATHERED // (numbers_BC.shape[1] * documents_ND.shape[1]))
    scores_BC = [
        # No matrix product here: its blocks would let a row's place change the last bits.
        (documents_ND[numbers].double() * queries[:, None].double()).sum(dim=2).float()
        for numbers, queries in zip(
            numbers_BC.split(at_once), queries_BD.split(at_once), strict=True
        )
    ]
    return torch.cat(scores_BC).cpu().numpy()
