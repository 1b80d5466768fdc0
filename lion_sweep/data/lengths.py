"""How long the texts of every step are, counted for a block of steps at once.

What a step costs depends on nothing but the lengths of its texts, real and padded, so this is all
that a plan needs. Shapes: S steps of a block, K parts of them, T texts of a part, L a length.
"""

from functools import lru_cache

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
                "(recipe.accumulation times devices): choose a multiple."
            )
        self.sampler, self.tokens, self.parts = sampler, micro_batch_tokens, parts
        self.longest = max(int(query_length_N.max()), int(passage_length_N.max()))
        # Integers of 16 bits are sorted ten times as fast: by radix.
        self._length_N = query_length_N.astype(np.uint16), passage_length_N.astype(np.uint16)
        self.block = lru_cache(maxsize=None)(self._block)  # cells of a grid share their steps

    def lengths(self, step: Step) -> NDArray[np.int64]:
        """Tokens of every text of a step: its queries, then its passages."""
        query_N, passage_N = self._length_N
        found = (query_N[step.query_B], passage_N[step.passage_BG.ravel()])
        return np.concatenate(found).astype(np.int64)

    def _block(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(real, padded) counts of the block's steps, both [S, longest + 1]."""
        query_SB, passage_SBG = self.sampler.block_texts(number)
        length_SBT = np.concatenate(
            [self._length_N[0][query_SB][..., None], self._length_N[1][passage_SBG]], axis=2
        )
        steps, bins = len(length_SBT), self.longest + 1
        length_ST = length_SBT.reshape(steps, -1)
        flat = (length_ST + bins * np.arange(steps, dtype=np.int64)[:, None]).ravel()
        real_SL = np.bincount(flat, minlength=steps * bins).reshape(steps, bins)
        parts_KT = length_ST.reshape(steps * self.parts, -1)
        padded_KL = padded_counts(parts_KT, self.tokens, self.longest)
        return real_SL, padded_KL.reshape(steps, self.parts, bins).sum(axis=1)
