"""Vectors of a wanted L0: the weights of a regulariser follow from the L0 that is measured.

L0 itself has no gradient. So the constraint `L0 = target` is met through the multiplier of what has
one, the penalty: it rises while vectors have too many terms and falls while they have too few, by a
controller with an integral and a proportional part (Stooke et al., Responsive Safety in
Reinforcement Learning by PID Lagrangian Methods, ICML 2020; the proportional part damps the
swings of plain dual ascent). Both act on logarithms, of the L0 and of the multiplier, so that the
multiplier stays positive and a factor of two is as far above the target as below it.

Shapes: Q queries and C passages of all ranks, N of either, D vocabulary entries.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lion_sweep.config.section import require, share
from lion_sweep.config.target import SIDES
from lion_sweep.losses.representations import Representations

NAMES = "L0_start", "L0", "error", "pressure"


class _Side(NamedTuple):
    """What is known of queries, or of passages; float64 scalars on the device of the vectors."""

    start: Tensor  # the first L0 that was measured
    l0: Tensor  # the last one
    error: Tensor  # log1p of it, less log1p of what it was to be
    pressure: Tensor  # logarithm of what the penalty is multiplied with


@dataclass
class L0Controller:
    """Multiplies the terms of a regulariser so that vectors come to have `targets` terms.

    What L0 is to be falls from that of the first step to `headroom` times the target along a
    straight line of logarithms, over the first `approach` of the steps, in place of the ramp of the
    weights, which are whole from the first step on. What is above the target in the end can be cut
    before search, while what lacks cannot be added. L0 is the mean over the vectors of all ranks,
    hence the same however many ranks there are. Nothing is read off the device while a step runs.

    `rate` is what the multiplier's logarithm gains over a whole training in which L0 is e times
    too large, `gain` what it gains at once where L0 becomes e times larger; the multiplier stays
    between 1 / `most` and `most`. Terms are the queries' or the passages' by the end of their
    names, `_query` or `_passage`; others stay as they are.
    """

    regulariser: Any
    targets: Mapping[str, float]  # of `queries` and of `passages`
    headroom: float
    approach: float
    rate: float
    gain: float
    most: float
    _sides: dict[str, _Side] = field(default_factory=dict, init=False)
    _progress: float = field(default=0.0, init=False)

    @classmethod
    def check(cls, key: str, settings: Mapping[str, Any]) -> None:
        """Refuse settings that are impossible, as `UserError`; `key` leads to them."""
        share(f"{key}.approach", settings["approach"], "a share of the steps")
        for name, least in (("headroom", 1), ("rate", 0), ("gain", 0), ("most", 1)):
            value = settings[name]
            require(value >= least, f"{key}.{name}={value} must be {least} or more.")

    def __call__(self, step: Representations, progress: float) -> dict[str, Tensor]:
        """The regulariser's named terms; `progress` is the share of the optimiser steps done."""
        vectors = step.all_query_QD, step.candidate_CD
        for side, vectors_ND in zip(SIDES, vectors, strict=True):
            self._sides[side] = self._adapted(side, vectors_ND.detach(), progress)
        self._progress = progress
        factors = {"query": self._sides["queries"], "passage": self._sides["passages"]}
        terms: dict[str, Tensor] = self.regulariser(step, 1.0)
        for name, term in terms.items():
            if known := factors.get(name.rpartition("_")[2]):
                terms[name] = known.pressure.exp().to(term.dtype) * term
        return terms

    def _adapted(self, side: str, vectors_ND: Tensor, progress: float) -> _Side:
        l0 = vectors_ND.count_nonzero().double() / len(vectors_ND)
        before = self._before(side, l0.device)
        start = before.start if before else l0
        target = torch.full_like(l0, self.headroom * self.targets[side]).log1p()
        left = max(0.0, 1.0 - progress / self.approach) if self.approach else 0.0
        error = l0.log1p() - (target + left * (start.log1p() - target))
        if before is None:
            return _Side(start, l0, error, torch.zeros_like(l0))
        change = self.gain * (error - before.error)
        change = change + self.rate * (progress - self._progress) * error
        bound = math.log(self.most)
        return _Side(start, l0, error, (before.pressure + change).clamp(-bound, bound))

    def _before(self, side: str, device: torch.device) -> _Side | None:
        known = self._sides.get(side)
        return known and _Side(*(value.to(device) for value in known))

    def state(self) -> dict[str, float]:
        """What a step is to go on from, to the bit: L0 on training's texts, and the multipliers."""
        found = {
            f"{name}_{side}": float(value)
            for side, known in self._sides.items()
            for name, value in zip(NAMES, known, strict=True)
        }
        return found | {"progress": self._progress}

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` told."""
        for side in SIDES:
            told = (state[f"{name}_{side}"] for name in NAMES)
            self._sides[side] = _Side(*(torch.tensor(one, dtype=torch.float64) for one in told))
        self._progress = state["progress"]
