"""Which steps a training takes, and how many: what follows from the lengths of its texts alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from lion_sweep.config import Budget, BudgetKind, Lora, Precision, Sampling
from lion_sweep.cost.memory import Decoder
from lion_sweep.cost.meter import Spending
from lion_sweep.data.batches import Sampler
from lion_sweep.data.groups import Groups
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.data.marks import Marking
from lion_sweep.data.tokens import read
from lion_sweep.machine.execution import Execution
from lion_sweep.stages.backbone import Blueprint
from lion_sweep.stages.base import beside
from lion_sweep.stages.groups import GROUPS, Grouped
from lion_sweep.stages.texts import Cut
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.fit import Fit

Counts = Callable[[int], LengthCounts]


@dataclass(frozen=True)
class Draws:
    """What a step is drawn from, and how much of it."""

    groups: Grouped
    batch_size: int  # queries
    negatives: int  # of a query
    seed: int
    sampling: Sampling = Sampling.random  # of a query's candidates

    def sampler(self, shop: Workshop, scores: Path | None = None) -> Sampler:
        """With a teacher's `scores` of what is drawn, or the groups' own."""
        return _sampler(shop.folder(self.groups) / GROUPS, self, scores)


@lru_cache(maxsize=8)
def _sampler(path: Path, draws: Draws, scores: Path | None) -> Sampler:
    score_RG = None if scores is None else np.load(scores, mmap_mode="r")
    how = draws.batch_size, draws.negatives, draws.seed
    ranked = draws.groups.ranked
    return Sampler(_groups(path), *how, score_RG, draws.sampling, ranked=ranked)


_groups = lru_cache(maxsize=4)(Groups.load)


@lru_cache(maxsize=32)  # the cells of a grid share their steps
def _length_counts(
    sampler: Sampler, texts: tuple[tuple[Path, bool, int, Marking], ...], parts: int, tokens: int
) -> LengthCounts:
    query_N, passage_N = (
        marking.lengths(read(folder, echo=echo), length) for folder, echo, length, marking in texts
    )
    return LengthCounts(sampler, query_N, passage_N, micro_batch_tokens=tokens, parts=parts)


@dataclass(frozen=True)
class Amount:
    """How long a training goes on: what its kind of budget reads, and nothing else."""

    kind: BudgetKind
    value: float | None

    @classmethod
    def of(cls, budget: Budget) -> "Amount":
        """GPU-hours and anchors are settled before: they come to steps and FLOPs."""
        steps = budget.kind in (BudgetKind.steps, BudgetKind.gpu_hours)
        kind = BudgetKind.steps if steps else budget.kind
        return cls(kind, getattr(budget, kind.name))


@dataclass(frozen=True)
class Course:
    """The steps of a training; no weights have to be there, and no teacher's scores."""

    draws: Draws
    queries: Cut
    passages: Cut
    blueprint: Blueprint
    lora: Lora | None
    sparse: bool
    projection: int  # outputs of a layer that the encoder trains besides; 0: none
    amount: Amount
    precision: Precision = beside(None)
    budget: Budget = beside(None)  # what `amount` is taken from, with its limits
    chunk: int = beside(0)  # tokens that have to fit at once besides a text

    @property
    def decoder(self) -> Decoder:
        shape = replace(self.blueprint.shape, projection=self.projection)
        return Decoder(shape, self.lora, self.precision is Precision.bf16)

    def counts(self, shop: Workshop, devices: int) -> Counts:
        """Of micro-batches of so many tokens."""
        cuts, sampler = (self.queries, self.passages), self.draws.sampler(shop)
        texts = tuple((shop.folder(cut.cache), cut.echo, cut.length, cut.marking) for cut in cuts)
        return partial(_length_counts, sampler, texts, devices)

    def fit(self, counts: Counts, execution: Execution) -> Fit:
        """How it fits its devices; nothing is loaded."""
        return self._fit(counts, execution).settled(counts)

    def _fit(self, counts: Counts, execution: Execution) -> Fit:
        costs = self.decoder, self.blueprint.tied, self.sparse, self.budget, self.chunk
        return Fit(*costs, execution, counts(execution.micro_batch_tokens))

    def spending(self, shop: Workshop) -> Spending:
        """What the budget buys, on whatever devices; useful FLOPs are the same on all."""
        how = shop.execution
        return self._fit(self.counts(shop, how.devices), how).spending
