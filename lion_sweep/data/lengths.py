"""How long the texts of every step are, counted for a block of steps at once.

What a step costs depends on nothing but the lengths of its texts, real and padded, so this is all
that a plan needs. Shapes: S steps of a block, B queries of a step, K parts of the block's steps,
T texts of a part, P training pairs, M mined negatives, L a length.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data.batches import Sampler, Step
from lion_sweep.errors import UserError


def padded_counts(length_KT: NDArray[np.integer], tokens: int, longest: int) -> NDArray[np.int64]:
    """How many of the T texts of each part are padded to each length, [K, longest + 1].

    The micro-batches are those of `batches.micro_batches`, cut from all parts side by side.
    """
    falling_KT = np.sort(length_KT, axis=1, kind="stable")[:, ::-1]
    parts, texts = falling_KT.shape
    count_KL = np.zeros((parts, longest + 1), dtype=np.int64)
    every_K, first_K = np.arange(parts), np.zeros(parts, dtype=np.int64)
    while len(every_K):
        longest_K = falling_KT[every_K, first_K].astype(np.int64)
        taken_K = np.minimum(np.maximum(1, tokens // longest_K), texts - first_K)
        count_KL[every_K, longest_K] += taken_K
        first_K += taken_K
        left_K = first_K < texts
        every_K, first_K = every_K[left_K], first_K[left_K]
    return count_KL


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
        if sampler.batch_size % parts:
            raise UserError(
                f"loss.batch_size={sampler.batch_size} does not divide into {parts} parts "
                "(one per device): choose a multiple."
            )
        self.sampler, self.tokens, self.parts = sampler, micro_batch_tokens, parts
        self.longest = max(int(query_length_N.max()), int(passage_length_N.max()))
        # Integers of 16 bits are sorted ten times as fast: by radix.
        self._length_N = query_length_N.astype(np.uint16), passage_length_N.astype(np.uint16)
        query_N, passage_N = self._length_N
        groups = sampler.groups
        # One look-up per text by pair and column: query, positive, mined negatives. Places without
        # a negative hold the length of some other passage; no draw ever names them.
        self._length_PM = np.concatenate(
            [
                query_N[groups.query_P, None],
                passage_N[groups.positive_P, None],
                passage_N[groups.negative_PM],
            ],
            axis=1,
        )
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
        columns = self._length_PM.shape[1]
        place_SBT = np.empty((*pair_SB.shape, 2 + self.sampler.negatives), dtype=np.int64)
        place_SBT[..., 0], place_SBT[..., 1], place_SBT[..., 2:] = 0, 1, column_SBN + 2
        place_SBT += pair_SB[..., None] * columns
        length_SBT = self._length_PM.ravel().take(place_SBT)
        steps, bins = len(length_SBT), self.longest + 1
        length_ST = length_SBT.reshape(steps, -1)
        flat = (length_ST + bins * np.arange(steps, dtype=np.int64)[:, None]).ravel()
        real_SL = np.bincount(flat, minlength=steps * bins).reshape(steps, bins)
        parts_KT = length_ST.reshape(steps * self.parts, -1)
        padded_KL = padded_counts(parts_KT, self.tokens, self.longest)
        return real_SL, padded_KL.reshape(steps, self.parts, bins).sum(axis=1)
