"""What work costs, planned from lengths and spent as it ran: prices per text, added up exactly.

Shapes: S steps, K parts of them, N texts, L a length.
"""

import operator
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from transformers import PretrainedConfig

from lion_sweep.config import Adapt, Lora
from lion_sweep.cost.ledger import (
    DecoderShape,
    classifier_flops,
    executed_flops,
    sequence_flops,
    teacher_flops,
)


@dataclass(frozen=True)
class Spending:
    """What some work costs; steps are optimiser steps, tokens are real ones."""

    steps: int = 0
    useful_flops: int = 0
    hardware_flops: int = 0
    tokens: int = 0

    def __add__(self, other: "Spending") -> "Spending":
        return Spending(*map(operator.add, astuple(self), astuple(other)))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a result file."""
        return asdict(self)


def padded_counts(real_KL: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
    """How many texts of each part are padded to each length, [K, L], from its texts of each length.

    The micro-batches are those of `batches.micro_batches`.
    """
    padded_KL = np.zeros_like(real_KL)
    _pad(real_KL.copy(), tokens, padded_KL)
    return padded_KL


@njit(cache=True, nogil=True)
def _pad(left_KL, tokens, padded_KL):  # type: ignore[no-untyped-def]
    for part in range(len(left_KL)):
        left_L, length = left_KL[part], left_KL.shape[1] - 1
        longest, room = 0, 0  # of the micro-batch that is being filled
        while length > 0:
            if left_L[length] == 0:
                length -= 1
                continue
            if room == 0:
                longest, room = length, max(1, tokens // length)
            taken = min(room, left_L[length])
            padded_KL[part, longest] += taken
            left_L[length] -= taken
            room -= taken


@dataclass(frozen=True)
class Meter:
    """FLOPs of a text by its length: useful ones by the real length, hardware's by the padded."""

    useful_L: NDArray[np.int64]
    hardware_L: NDArray[np.int64]

    @classmethod
    def of_training(
        cls, shape: DecoderShape, longest: int, *, sparse: bool, lora: Lora | None, cached: bool
    ) -> "Meter":
        """Forward and backward pass of texts of up to `longest` tokens; `cached`: gradients."""
        length_L = np.arange(longest + 1)
        return cls(
            sequence_flops(shape, length_L, sparse=sparse, lora=lora),
            executed_flops(shape, length_L, sparse=sparse, lora=lora, cached=cached),
        )

    @classmethod
    def of_encoding(cls, shape: DecoderShape, longest: int, *, sparse: bool) -> "Meter":
        """Forward pass alone, adapters merged."""
        length_L = np.arange(longest + 1)
        flops_L = sequence_flops(shape, length_L, sparse=sparse, lora=None, backward=False)
        return cls(flops_L, flops_L)

    @classmethod
    def of_teacher(
        cls,
        config: PretrainedConfig,
        longest: int,
        projection: int = 0,
        *,
        classifies: bool = False,
    ) -> "Meter":
        """Forward pass of a teacher's encoder, and of what it has besides.

        That is a projection of every token to so many, or a classifier's head.
        """
        length_L = np.arange(longest + 1)
        flops_L = teacher_flops(config, length_L)
        if projection:
            flops_L = flops_L + 2 * config.hidden_size * projection * length_L
        if classifies:
            flops_L = flops_L + classifier_flops(config)
        return cls(flops_L, flops_L)

    def micro_batch(self, length_N: NDArray[np.int64], padded: int) -> Spending:
        """What N texts cost that were padded to `padded` tokens."""
        useful, hardware = self.useful_L[length_N].sum(), len(length_N) * self.hardware_L[padded]
        return Spending(0, int(useful), int(hardware), int(length_N.sum()))

    def texts(self, length_N: NDArray[np.int64], tokens: int) -> Spending:
        """What N texts cost in micro-batches of at most `tokens` padded tokens."""
        real_1L = np.bincount(length_N, minlength=len(self.useful_L))[None]
        return replace(self.steps(real_1L, padded_counts(real_1L, tokens)), steps=0)

    def steps(self, real_SL: NDArray[np.int64], padded_SL: NDArray[np.int64]) -> Spending:
        """What S steps cost whose texts have these lengths, see `LengthCounts`."""
        # A cell's FLOPs are more than 64 bits hold: Python's integers are exact.
        real_L, padded_L = real_SL.sum(axis=0).astype(object), padded_SL.sum(axis=0).astype(object)
        return Spending(
            len(real_SL),
            int(real_L @ self.useful_L.astype(object)),
            int(padded_L @ self.hardware_L.astype(object)),
            int(real_L @ np.arange(len(real_L))),
        )


def mntp_spending(
    shape: DecoderShape, settings: Adapt, lora: Lora | None, chunks: int, predicted: int
) -> Spending:
    """What MNTP costs on so many chunks, of whose tokens `predicted` are asked for."""
    length_1 = np.array([settings.chunk])
    useful = sequence_flops(shape, length_1, sparse=False, lora=lora)
    hardware = executed_flops(shape, length_1, sparse=False, lora=lora)
    # Without embedding_rate the head's rows are frozen, and so they are under LoRA.
    products = 3 if settings.embedding_rate else 2  # forward, and backward to inputs and weights
    head = products * 2 * shape.head_parameters * predicted
    executed = chunks * int(hardware[0]) + head
    return Spending(0, chunks * int(useful[0]) + head, executed, chunks * settings.chunk)


def planned_mntp(shape: DecoderShape, settings: Adapt, lora: Lora | None) -> Spending:
    """What the whole of MNTP should cost: how many tokens are masked is a matter of chance."""
    chunks = settings.steps * settings.batch_size
    predicted = round(chunks * (settings.chunk - 1) * settings.mask_probability)
    training = mntp_spending(shape, settings, lora, chunks, predicted)
    return Spending(steps=settings.steps) + training + centre_spending(shape, settings, lora)


def centre_spending(shape: DecoderShape, settings: Adapt, lora: Lora | None) -> Spending:
    """What the largest logits of some chunks cost: a forward pass, adapters not merged."""
    chunks, length_1 = settings.centre or 0, np.array([settings.chunk])
    flops_1 = sequence_flops(shape, length_1, sparse=True, lora=lora, backward=False)
    flops = chunks * int(flops_1[0])
    return Spending(0, flops, flops, chunks * settings.chunk)
