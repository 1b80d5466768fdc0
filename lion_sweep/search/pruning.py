"""Sparse vectors that are there already, without their smaller weights: read so, never copied.

Shapes: N texts, V vocabulary, M rows, E entries of a block, B bins.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.models.largest import largest_of_rows, only
from lion_sweep.search.parts import Stored

HALF = 2**16  # values of half the bits of a weight


class Pruned(Stored):
    """`Stored` vectors whose rows keep weights of `least` and more, and of these `terms` at most.

    Of equal weights the `terms` are those of lower entries. Source: Lassance et al., A Static
    Pruning Study on Sparse Neural Retrievers, SIGIR 2023, whose agnostic pruning `least` is, and
    whose document-centric one `terms`.
    """

    def __init__(self, folder: Path, terms: int | None = None, least: float = 0.0) -> None:
        super().__init__(folder)
        self.terms, self.least = terms, np.float32(least)

    def rows(self, start: int, stop: int) -> Any:
        """CSR, [M, V]."""
        found = super().rows(start, stop)
        if self.least > 0:
            found = only(found, found.data >= self.least)
        return largest_of_rows(found, self.terms)

    @cached_property
    def nnz(self) -> int:
        """Entries that are left."""
        return int(self.terms_V.sum())


def least_weight(vectors_NV: Stored, most: int) -> float:
    """The smallest float32 that no more than `most` of all weights reach; 0 where all may stay.

    Of equal weights all go, or none. Weights are not negative. It takes two passes over them, and
    memory that does not grow with them.
    """
    if vectors_NV.nnz <= most:
        return 0.0
    # Floats that are not negative are in the order of their bits: halves of these are counted.
    counts_H = np.zeros(HALF, np.int64)
    for bits_E in _bits(vectors_NV):
        counts_H += np.bincount(bits_E // HALF, minlength=HALF)
    first = _first(counts_H, most)
    room, counts_L = most - int(counts_H[first:].sum()), np.zeros(HALF, np.int64)
    for bits_E in _bits(vectors_NV):
        of_half = bits_E[bits_E // HALF == first - 1]
        counts_L += np.bincount(of_half % HALF, minlength=HALF)
    found = (first - 1) * HALF + _first(counts_L, room)
    return float(np.uint32(found).view(np.float32))


def _bits(vectors_NV: Stored) -> Iterator[NDArray[np.uint32]]:
    for _, block in vectors_NV.blocks():
        yield block.data.astype(np.float32, copy=False).view(np.uint32)


def _first(counts_B: NDArray[np.int64], most: int) -> int:
    """The first bin from which on no more than `most` are counted; one after the last, if none."""
    from_B = counts_B[::-1].cumsum()[::-1]
    return int(np.searchsorted(-from_B, -most))
