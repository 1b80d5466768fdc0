"""Exact dense search on the device, in fp16: hits those of float64 and of the CPU; queries/s.

Vectors are normal and made on the device; a cell's come from main memory, block by block.

Shapes: N documents, Q queries, D dimensions, K hits.
"""

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_rehearsal.target import GIB, Case, Figure, Target
from lion_sweep.search import dense

HITS = 1000
QUERIES, COMPARED, ON_CPU = 1024, 8, 16
WORKSPACE = 8.0  # GiB of a search and of the comparison
# name, documents (None: as many as fit), dimensions, GiB, whether the CPU searches too
SIZES = (
    ("search 1M x 2,048", 1_000_000, 2048, 10, True),
    ("search 8.8M x 1,024", 8_800_000, 1024, 24, False),
    ("search as many x 4,096 as fit", None, 4096, 20, False),
)
BLOCK = 1 << 16  # documents made, or scored in float64, at once


def cases(target: Target) -> list[Case]:
    """One per collection."""

    def case(name: str, count: int | None, width: int, gib: float, on_cpu: bool) -> Case:
        return Case(name, lambda: _measure(target, count, width, on_cpu), gib)

    return [case(*size) for size in SIZES]


def _measure(target: Target, count: int | None, width: int, on_cpu: bool) -> Iterator[Figure]:
    device = target.device.device
    if target.tiny:
        count, width = 3000, 16
    count = count or int((target.free_gib - WORKSPACE) * GIB / (2 * width))
    generator = torch.Generator(device).manual_seed(target.seed)

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, width, generator=generator, device=device, dtype=torch.float16)

    documents_ND = torch.empty(count, width, device=device, dtype=torch.float16)
    for block_ND in documents_ND.split(BLOCK):
        block_ND.copy_(normal(len(block_ND)))
    queries_QD, k = normal(target.pick(QUERIES, 20)), target.pick(HITS, 50)
    _found(documents_ND[:BLOCK], queries_QD[:COMPARED], k)  # warm
    target.device.wait()
    start = time.perf_counter()
    found = _found(documents_ND, queries_QD, k)
    seconds = time.perf_counter() - start  # the hits are in main memory
    yield Figure("documents", count)
    yield Figure("queries/s", len(queries_QD) / seconds)
    exact = _exact(documents_ND, queries_QD[:COMPARED], k)
    yield Figure("hits that differ from float64", _differing(found, exact))
    if on_cpu:
        cpu = _found(documents_ND.cpu().float(), queries_QD[:ON_CPU].cpu().float(), k)
        yield Figure("hits that differ from the CPU's", _differing(found, cpu))


def _found(documents_ND: Tensor, queries_QD: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """[Q, K] numbers and scores of the best, as the engine finds them."""
    best, start = dense.Products(queries_QD, min(k, len(documents_ND))), 0
    for block_ND in documents_ND.split(BLOCK):
        best.add(block_ND, np.arange(start, start := start + len(block_ND)))
    return best.ranked()


def _exact(documents_ND: Tensor, queries_QD: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """[Q, K] numbers and scores of the best, of equal ones the lower first."""
    wide_DQ = queries_QD.double().T
    scores_NQ = torch.cat([block.double() @ wide_DQ for block in documents_ND.split(BLOCK)]).float()
    order_NQ = scores_NQ.sort(dim=0, descending=True, stable=True).indices[:k]
    return order_NQ.T.cpu().numpy(), scores_NQ.gather(0, order_NQ).T.cpu().numpy()


def _differing(
    found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]
) -> int:
    """Hits of other documents, and of other scores."""
    return sum(
        int((one[: len(other)] != other).sum()) for one, other in zip(found, expected, strict=True)
    )
