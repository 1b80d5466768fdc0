"""The pairs that the steps of a training draw, in parts, so that trainings share what they score.

A training's parts follow from what it draws and how much at once, not from how long it goes on:
of two that draw the same, the longer one has the parts of the shorter one, and more. Parts are
whole ones, so that the last reaches somewhat beyond the last step.

Shapes: R rows (the queries of all steps, one step after the other), G = 1 + negatives, N texts, C
pairs.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data.batches import Sampler, Step

# Pairs of the first part; each has twice those of the one before it, up to the largest.
FIRST, LARGEST = 1 << 12, 1 << 18


class Drawn:
    """All parts that so many steps need."""

    def __init__(self, sampler: Sampler, steps: int) -> None:
        self._sampler, self._ends, size = sampler, [0], FIRST
        while self._ends[-1] < steps:
            pairs = sampler.batch_size * (1 + sampler.negatives)
            self._ends.append(self._ends[-1] + max(1, size // pairs))
            size = min(2 * size, LARGEST)

    @property
    def steps(self) -> int:
        """Those of all parts."""
        return self._ends[-1]

    @cached_property
    def step(self) -> Step:
        """All steps as one, [R] and [R, G]; scores are the groups' own."""
        return self._sampler.first(self.steps)

    @cached_property
    def queries(self) -> list[NDArray[np.int64]]:
        """Rows of the queries that each part is the first to name, ascending."""
        return self._new(self.step.query_B)

    @cached_property
    def passages(self) -> list[NDArray[np.int64]]:
        """Rows of the passages that each part is the first to name, ascending."""
        return self._new(self.step.passage_BG)

    @cached_property
    def pairs(self) -> list[NDArray[np.int64]]:
        """Rows of the query and the passage of each pair, [C, 2], that each part is the first to
        name, ascending."""
        passage_RG = self.step.passage_BG.astype(np.int64)
        query_RG = np.broadcast_to(self.step.query_B[:, None], passage_RG.shape)
        pair_C2 = np.stack([query_RG, passage_RG], axis=-1).reshape(-1, 2)
        passages = int(pair_C2[:, 1].max()) + 1
        _, first_C = np.unique(pair_C2 @ [passages, 1], return_index=True)
        group, size = query_RG.shape[1], self._sampler.batch_size
        part_C = np.searchsorted(self._ends[1:-1], first_C // (group * size), side="right")
        return [pair_C2[first_C[part_C == part]] for part in range(len(self._ends) - 1)]

    def _new(self, named: NDArray[np.int32]) -> list[NDArray[np.int64]]:
        seen_N, found = np.zeros(int(named.max()) + 1, dtype=bool), []
        ends = self._sampler.batch_size * np.array(self._ends[1:-1], dtype=np.int64)
        for part in np.split(named, ends):
            own_N = np.zeros_like(seen_N)
            own_N[part.ravel()] = True
            found.append(np.flatnonzero(own_N & ~seen_N))
            seen_N |= own_N
        return found
