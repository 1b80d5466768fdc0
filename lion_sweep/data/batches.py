"""Which pairs a step sees, and how its texts are cut into micro-batches.

Shapes: E epochs and S steps of a block, B queries of a step, R of all steps one after the other,
G = 1 + negatives, P training pairs, N texts, L tokens (padded).
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from lion_sweep.config import Sampling
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import UserError

BLOCK_PAIRS = 1 << 17


@dataclass(frozen=True)
class Step:
    """Rows of one optimiser step; column 0 of `passage_BG` is the positive."""

    query_B: NDArray[np.int32]
    passage_BG: NDArray[np.int32]
    teacher_BG: NDArray[np.float32]

    def split(self, parts: int) -> list["Step"]:
        """Equal parts, in order."""
        check_parts(len(self.query_B), parts)
        arrays = self.query_B, self.passage_BG, self.teacher_BG
        return [Step(*part) for part in zip(*(np.split(a, parts) for a in arrays), strict=True)]


def check_parts(batch_size: int, parts: int) -> None:
    """Raises `UserError` where a step's queries cannot be split evenly."""
    if batch_size % parts:
        raise UserError(
            f"loss.batch_size={batch_size} does not divide into {parts} parts "
            "(one per device): choose a multiple."
        )


class Sampler:
    """Step t as a pure function of the seed and t, so that any step can be had without the others.

    An epoch is a shuffle of all pairs; what does not fill a batch is left for another epoch. A
    block of epochs is drawn at once, so that planning thousands of steps takes a few array
    operations: one epoch of a large collection, many of a small one. Scores are the groups' own
    where no teacher's are given, `score_RG` of as many steps as will be asked for.

    A query's negatives are drawn from its candidates at random, or by the groups' own scores of
    them (where they are `ranked`, as they stand): the first of all ("top"), or a random one of each
    of as many equal parts ("stratified"). Where a query has fewer candidates than that, all of them
    are taken, in turns.
    """

    def __init__(
        self,
        groups: Groups,
        batch_size: int,
        negatives: int,
        seed: int,
        score_RG: NDArray[np.float32] | None = None,
        sampling: Sampling = Sampling.random,
        *,
        ranked: bool = False,
    ) -> None:
        if len(groups) < batch_size:
            raise UserError(
                f"loss.batch_size={batch_size} is more than the {len(groups)} training pairs: "
                f"set loss.batch_size={len(groups)} or less."
            )
        self.groups, self.seed, self.score_RG, self.sampling = groups, seed, score_RG, sampling
        self.ranked = ranked
        self.batch_size, self.negatives = batch_size, negatives
        self.steps_per_epoch = len(groups) // batch_size
        self.epochs_per_block = max(1, BLOCK_PAIRS // len(groups))
        self.steps_per_block = self.epochs_per_block * self.steps_per_epoch
        # Mined negatives fill a row from the left, so their number says which columns there are.
        self._mined_P = (groups.negative_PM != MISSING).sum(axis=1)
        self.block = lru_cache(maxsize=1)(self._block)  # steps are asked for one after the other

    def _block(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(pairs, [S, B]; the columns of their mined negatives, [S, B, G - 1]) of S steps."""
        rng = np.random.default_rng([self.seed, number])
        pair_EP = np.tile(np.arange(len(self.groups)), (self.epochs_per_block, 1))
        rng.permuted(pair_EP, axis=1, out=pair_EP)
        used_EP = pair_EP[:, : self.steps_per_epoch * self.batch_size]
        pair_SB = used_EP.reshape(-1, self.batch_size)
        pair_P = pair_SB.ravel()
        column_PN = _DRAWS[self.sampling](self._mined_P[pair_P], self.negatives, rng)
        if self.sampling is not Sampling.random and not self.ranked:
            _from_ranks(column_PN, pair_P, self._mined_P, self._score_PM)
        return pair_SB, column_PN.reshape(*pair_SB.shape, self.negatives)

    @cached_property
    def _score_PM(self) -> NDArray[np.float32]:
        """The groups' own scores of their candidates. Raises `UserError` where they have none."""
        if not np.isfinite(self.groups.positive_score_P).all():
            raise UserError(
                f"loss.sampling={self.sampling} draws candidates by their scores, and data.groups "
                "has none: choose files with scores, or loss.sampling=random."
            )
        return np.asarray(self.groups.negative_score_PM)  # no copy of what is memory-mapped

    def step(self, number: int) -> Step:
        """Optimiser step `number`, counted from 0."""
        block, place = divmod(number, self.steps_per_block)
        pair_SB, column_SBN = self.block(block)
        step = self._named(pair_SB[place], column_SBN[place])
        if self.score_RG is None:
            return step
        first = number * self.batch_size
        # A copy, as torch warns of arrays of a file that is only read.
        return replace(step, teacher_BG=np.array(self.score_RG[first : first + self.batch_size]))

    def first(self, steps: int) -> Step:
        """So many steps as one, with the groups' own scores."""
        parts = []
        for number in range(-(-steps // self.steps_per_block)):
            left = steps - number * self.steps_per_block
            pair_SB, column_SBN = self._block(number)
            column_BN = column_SBN[:left].reshape(-1, self.negatives)
            parts.append(self._named(pair_SB[:left].ravel(), column_BN))
        arrays = ([getattr(part, entry.name) for part in parts] for entry in fields(Step))
        return Step(*map(np.concatenate, arrays))

    def _named(self, pair_B: NDArray[np.int64], column_BN: NDArray[np.int32]) -> Step:
        groups, mined_BN = self.groups, (pair_B[:, None], column_BN)
        passage_BG = np.c_[groups.positive_P[pair_B], groups.negative_PM[mined_BN]]
        score_BG = np.c_[groups.positive_score_P[pair_B], groups.negative_score_PM[mined_BN]]
        return Step(groups.query_P[pair_B], passage_BG, score_BG)


def _draw(
    mined_P: NDArray[np.int64], negatives: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Distinct columns below `mined_P` for each pair, [P, negatives]; repeats where there are few.

    Floyd's algorithm, all pairs at once: the i-th draw is from one column more than the one before
    it, and takes that last column instead of one it has already.
    """
    mined_P = mined_P.astype(np.int32)
    column_NP = np.zeros((negatives, len(mined_P)), dtype=np.int32)
    for place in range(negatives):
        last_P = mined_P - negatives + place
        drawn_P = (rng.random(len(mined_P)) * (last_P + 1)).astype(np.int32)
        taken_P = np.zeros(len(mined_P), dtype=bool)
        for earlier_P in column_NP[:place]:
            taken_P |= earlier_P == drawn_P
        column_NP[place] = np.where(taken_P, last_P, drawn_P)
    few_P = np.flatnonzero(mined_P <= negatives)
    if len(few_P):  # all of them, in turns, from a random one on
        first_P = (rng.random(len(few_P)) * mined_P[few_P]).astype(np.int32)
        turn_NP = first_P[None, :] + np.arange(negatives)[:, None]
        column_NP[:, few_P] = turn_NP % mined_P[few_P]
    return column_NP.T


def _first(
    mined_P: NDArray[np.int64], negatives: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """The first ranks of each pair's candidates, [P, negatives]."""
    return (np.arange(negatives) % mined_P[:, None]).astype(np.int32)


def _of_parts(
    mined_P: NDArray[np.int64], negatives: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """A random rank of each of as many parts of a pair's candidates, [P, negatives].

    Their sizes differ by one candidate at most.
    """
    end_PN = mined_P[:, None] * np.arange(negatives + 1) // max(1, negatives)
    size_PN, chance_PN = np.diff(end_PN), rng.random((len(mined_P), negatives))
    rank_PN = end_PN[:, :-1] + (chance_PN * size_PN).astype(np.int64)
    few_P = mined_P < negatives
    rank_PN[few_P] = _first(mined_P[few_P], negatives, rng)
    return rank_PN.astype(np.int32)


_DRAWS = {Sampling.random: _draw, Sampling.top: _first, Sampling.stratified: _of_parts}


@njit(cache=True, nogil=True)
def _from_ranks(column_RN, pair_R, mined_P, score_PM):  # type: ignore[no-untyped-def]
    """Columns in place of ranks by falling score, equal scores by their columns."""
    for row in range(len(pair_R)):
        score_M = score_PM[pair_R[row], : mined_P[pair_R[row]]]
        order_M = np.argsort(-score_M, kind="mergesort")
        for place in range(column_RN.shape[1]):
            column_RN[row, place] = order_M[column_RN[row, place]]


def micro_batches(lengths_N: NDArray[np.int64], tokens: int) -> Iterator[NDArray[np.int64]]:
    """Rows by falling length, cut so that rows x longest <= `tokens`; every row in one batch."""
    order = np.argsort(-lengths_N, kind="stable")
    first = 0
    while first < len(order):
        count = max(1, tokens // int(lengths_N[order[first]]))
        yield order[first : first + count]
        first += count


def as_many(batches: list[NDArray[np.int64]], count: int) -> list[NDArray[np.int64]]:
    """The batches in order, the largest halved until there are `count`; else `ValueError`."""
    batches = list(batches)
    while len(batches) < count:
        place = max(range(len(batches)), key=lambda number: len(batches[number]))
        rows = batches[place]
        if len(rows) == 1:
            raise ValueError(f"{len(batches)} rows cannot be cut into {count} batches")
        batches[place : place + 1] = np.array_split(rows, 2)
    return batches


def pad(
    texts: list[NDArray[np.int32]], device: torch.device, length: int | None = None
) -> tuple[Tensor, Tensor]:
    """(ids, mask), both [N, L], padded on the right to the longest text, or to `length`."""
    length_N = np.array([len(text) for text in texts])
    real_NL = np.arange(length or length_N.max()) < length_N[:, None]
    ids_NL = np.zeros(real_NL.shape, dtype=np.int64)
    ids_NL[real_NL] = np.concatenate(texts)
    return torch.from_numpy(ids_NL).to(device), torch.from_numpy(real_NL).to(device).long()
