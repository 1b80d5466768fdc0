"""Which pairs a step sees, and how its texts are cut into micro-batches.

Shapes: B queries of a step, G = 1 + negatives, N texts, L tokens (padded).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import UserError


@dataclass(frozen=True)
class Step:
    """Rows of one optimiser step; column 0 of `passage_BG` is the positive."""

    query_B: NDArray[np.int64]
    passage_BG: NDArray[np.int64]
    teacher_BG: NDArray[np.float32]

    def part(self, rows: slice) -> "Step":
        """Some of the step's queries."""
        return Step(self.query_B[rows], self.passage_BG[rows], self.teacher_BG[rows])

    def split(self, parts: int) -> list["Step"]:
        """Equal parts, in order."""
        size, rest = divmod(len(self.query_B), parts)
        if rest:
            raise UserError(
                f"loss.batch_size={len(self.query_B)} does not divide into {parts} parts "
                "(recipe.accumulation times devices): choose a multiple."
            )
        return [self.part(slice(first, first + size)) for first in range(0, size * parts, size)]


class Sampler:
    """Step t as a pure function of the seed and t, so that any step can be had without the others.

    An epoch is a shuffle of all pairs; what does not fill a batch is left for another epoch.
    """

    def __init__(self, groups: Groups, batch_size: int, negatives: int, seed: int) -> None:
        if len(groups) < batch_size:
            raise UserError(
                f"loss.batch_size={batch_size} is more than the {len(groups)} training pairs: "
                f"set loss.batch_size={len(groups)} or less."
            )
        self.groups, self.batch_size, self.negatives, self.seed = (
            groups,
            batch_size,
            negatives,
            seed,
        )
        self.steps_per_epoch = len(groups) // batch_size
        self._epoch, self._order = -1, np.arange(0)

    def step(self, number: int) -> Step:
        """Optimiser step `number`, counted from 0."""
        epoch, place = divmod(number, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.groups))
            self._epoch = epoch
        pairs_B = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, 1, number])
        groups = self.groups
        passages, scores = [groups.positive_P[pairs_B]], [groups.positive_score_P[pairs_B]]
        if self.negatives:
            column_BM = self._draw(pairs_B, rng)
            rows_B1 = pairs_B[:, None]
            drawn_BM = groups.negative_PM[rows_B1, column_BM]
            passages.extend(drawn_BM.T)
            scores.extend(groups.negative_score_PM[rows_B1, column_BM].T)
        return Step(
            groups.query_P[pairs_B].astype(np.int64),
            np.stack(passages, axis=1).astype(np.int64),
            np.stack(scores, axis=1),
        )

    def _draw(self, pairs_B: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Distinct columns of mined negatives for each pair; repeats where there are too few."""
        available_BM = self.groups.negative_PM[pairs_B] != MISSING
        count_B = available_BM.sum(axis=1)
        # Mined negatives fill a row from the left, so a random order of the filled part will do.
        keys_BM = np.where(available_BM, rng.random(available_BM.shape), np.inf)
        order_BM = np.argsort(keys_BM, axis=1)
        place_BN = np.arange(self.negatives)[None, :] % count_B[:, None]
        return np.take_along_axis(order_BM, place_BN, axis=1)


def micro_batches(lengths_N: NDArray[np.int64], tokens: int) -> Iterator[NDArray[np.int64]]:
    """Rows by falling length, cut so that rows x longest <= `tokens`; every row in one batch."""
    order = np.argsort(-lengths_N, kind="stable")
    first = 0
    while first < len(order):
        count = max(1, tokens // int(lengths_N[order[first]]))
        yield order[first : first + count]
        first += count


def pad(texts: list[NDArray[np.int32]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(ids, mask), both [N, L], padded on the right to the longest text."""
    longest = max(len(text) for text in texts)
    ids_NL = np.zeros((len(texts), longest), dtype=np.int64)
    mask_NL = np.zeros((len(texts), longest), dtype=np.int64)
    for row, text in enumerate(texts):
        ids_NL[row, : len(text)] = text
        mask_NL[row, : len(text)] = 1
    return torch.from_numpy(ids_NL).to(device), torch.from_numpy(mask_NL).to(device)


def step_lengths(
    step: Step, query_length_N: NDArray[np.int64], passage_length_N: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Real tokens of every text of a step: its B queries, then its B * G passages."""
    return np.concatenate([query_length_N[step.query_B], passage_length_N[step.passage_BG.ravel()]])
