"""How long the texts of every step are, counted for a block of steps at once.

What a step costs depends on nothing but the lengths of its texts, real and padded, so this is all
that a plan needs. Shapes: S steps of a block, B queries of a step, N negatives of a query,
K parts of the block's steps, P training pairs, M columns of lengths by pair, L a length.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lion_sweep.cost.meter import padded_counts
from lion_sweep.data.batches import Sampler, Step, check_parts


@njit(cache=True, nogil=True)
def _count(length_PM, pair_SB, column_SBN, parts, real_KL):  # type: ignore[no-untyped-def]
    steps, queries = pair_SB.shape
    share = queries // parts
    for step in range(steps):
        for query in range(queries):
            length_M = length_PM[pair_SB[step, query]]
            real_L = real_KL[step * parts + query // share]
            real_L[length_M[0]] += 1
            real_L[length_M[1]] += 1
            for column in column_SBN[step, query]:
                real_L[length_M[2 + column]] += 1


class LengthCounts:
    """Numbers of texts of every length, for each step of a block."""

    def __init__(
        self,
        sampler: Sampler,
        query_length_N: NDArray[np.int64],
        passage_length_N: NDArray[np.int64],
        *,
        micro_batch_tokens: int,
        parts: int,
    ) -> None:
        check_parts(sampler.batch_size, parts)
        self.sampler, self.tokens, self.parts = sampler, micro_batch_tokens, parts
        self.longest = max(int(query_length_N.max()), int(passage_length_N.max()))
        query_N, passage_N = query_length_N.astype(np.uint16), passage_length_N.astype(np.uint16)
        self._length_N, groups = (query_N, passage_N), sampler.groups
        # One look-up per text by pair and column: query, positive, mined negatives. Places without
        # a negative hold the length of some other passage; no draw ever names them.
        asked_P, positive_P = query_N[groups.query_P], passage_N[groups.positive_P]
        self._length_PM = np.c_[asked_P, positive_P, passage_N[groups.negative_PM]]
        self.block = lru_cache(maxsize=None)(self._block)  # cells of a grid share their steps

    def lengths(self, step: Step) -> NDArray[np.int64]:
        """Tokens of every text of a step: its queries, then its passages."""
        query_N, passage_N = self._length_N
        found = (query_N[step.query_B], passage_N[step.passage_BG.ravel()])
        return np.concatenate(found).astype(np.int64)

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """`block` of 0, 1, 2, ... without end; every core counts ahead of what is asked for."""
        cores = os.cpu_count() or 1
        with ThreadPoolExecutor(cores) as pool:
            ahead = deque(pool.submit(self.block, number) for number in range(cores))
            try:
                for number in count(cores):
                    yield ahead.popleft().result()
                    ahead.append(pool.submit(self.block, number))
            finally:
                pool.shutdown(cancel_futures=True)

    def _block(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(real, padded) counts of the block's steps, both [S, longest + 1]."""
        pair_SB, column_SBN = self.sampler.block(number)
        steps, bins = len(pair_SB), self.longest + 1
        real_KL = np.zeros((steps * self.parts, bins), dtype=np.int64)
        _count(self._length_PM, pair_SB, column_SBN, self.parts, real_KL)
        padded_KL = padded_counts(real_KL, self.tokens)
        of_parts = steps, self.parts, bins
        return real_KL.reshape(of_parts).sum(axis=1), padded_KL.reshape(of_parts).sum(axis=1)
