"""What cells start from, masked next-token prediction, and a cell's own training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from lion_sweep.config import Adapt, Budget, BudgetKind, Lora, Precision
from lion_sweep.cost.memory import Decoder
from lion_sweep.cost.meter import Spending, planned_mntp
from lion_sweep.data.batches import Sampler
from lion_sweep.data.groups import Groups
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.data.tokens import read
from lion_sweep.files import write_json
from lion_sweep.machine.devices import enough_memory
from lion_sweep.machine.execution import Execution
from lion_sweep.stages.backbone import Blueprint
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.groups import GROUPS, Given, Mine, Teach
from lion_sweep.stages.texts import Cut, tokenizer_of
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.fit import Fit, fit_chunks
from lion_sweep.training.loop import Supervision, TrainingData, train
from lion_sweep.training.optimisation import Optimisation, Run

if TYPE_CHECKING:  # importing the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone


Counts = Callable[[int], LengthCounts]


@dataclass(frozen=True, eq=False)
class AdaptDecoder(Stage):
    """MNTP on the passages of the collection; the cells of a size share it."""

    kind = "adapt"
    together = True

    blueprint: Blueprint
    passages: Cut
    settings: Adapt
    lora: Lora | None
    optimisation: Optimisation
    precision: Precision
    seed: int

    @property
    def decoder(self) -> Decoder:
        return Decoder(self.blueprint.shape, self.lora, self.precision is Precision.bf16)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        from lion_sweep.stages import weights  # which imports the models: seconds
        from lion_sweep.training.adapt import Chunks, adapt

        how, blueprint, settings = shop.execution, self.blueprint, self.settings
        rows, sharded = fit_chunks(self.decoder, blueprint.tied, settings, how)
        backbone = weights.load(self, how, None, sharded=sharded)
        tokens, progress = self.passages.read(shop), shop.progress
        tokens.check_within(backbone.vocabulary, blueprint.source)
        ids_T = tokens.joined(self.passages.length)
        tokenizer = tokenizer_of(blueprint.tokenizer, shop)
        chunks = Chunks(ids_T, tokenizer, rows, settings, self.lora)
        run = Run(how.accelerator, folder, how.checkpoint_every, progress.step, progress.kept)
        fewer = rows // 2 * settings.chunk
        remedy = f"recipe.micro_batch_tokens={fewer}" if fewer else None
        memory = enough_memory("adapt", lambda: remedy)
        with memory, weights.compiling(shop, "adapt", backbone) as more:
            facts = adapt(backbone, chunks, self.optimisation, self.seed, run)
        weights.save(backbone, folder, how)
        return facts | more

    def planned(self) -> Spending:
        return planned_mntp(self.blueprint.shape, self.settings, self.lora)


@dataclass(frozen=True)
class Draws:
    """What a step is drawn from, and how much of it."""

    groups: Mine | Given | Teach
    batch_size: int  # queries
    negatives: int  # of a query
    seed: int

    def sampler(self, shop: Workshop) -> Sampler:
        path = shop.folder(self.groups) / GROUPS
        return _sampler(path, self.batch_size, self.negatives, self.seed)


@lru_cache(maxsize=8)
def _sampler(path: Path, batch_size: int, negatives: int, seed: int) -> Sampler:
    return Sampler(_groups(path), batch_size, negatives, seed)


_groups = lru_cache(maxsize=4)(Groups.load)


@lru_cache(maxsize=32)  # the cells of a grid share their steps
def _length_counts(
    sampler: Sampler, texts: tuple[tuple[Path, int], ...], parts: int, tokens: int
) -> LengthCounts:
    query_N, passage_N = (read(folder).lengths(length) for folder, length in texts)
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


@dataclass(frozen=True, eq=False)
class TrainCell(Stage):
    """From adapted weights to trained ones."""

    kind = "train"
    together = True

    start: AdaptDecoder
    draws: Draws
    queries: Cut
    passages: Cut
    encoder: Mapping[str, Any]
    supervision: Supervision
    optimisation: Optimisation
    amount: Amount
    budget: Budget = beside(None)  # what `amount` is taken from, with its limits
    meant_for: Mapping[str, Any] = beside()  # what the weights alone do not tell who finds them

    def counts(self, shop: Workshop, devices: int) -> Counts:
        """Of micro-batches of so many tokens; no teacher has to score anything."""
        cuts, sampler = (self.queries, self.passages), self.untaught.sampler(shop)
        texts = tuple((shop.folder(cut.cache), cut.length) for cut in cuts)
        return partial(_length_counts, sampler, texts, devices)

    def fit(self, counts: Counts, execution: Execution) -> Fit:
        """How it fits its devices; nothing is loaded."""
        return self._fit(counts, execution).settled(counts)

    def _fit(self, counts: Counts, execution: Execution) -> Fit:
        start, sparse = self.start, self.supervision.sparse
        chunk = start.settings.chunk if start.settings.steps else 0
        costs = start.decoder, start.blueprint.tied, sparse, self.budget, chunk
        return Fit(*costs, execution, counts(execution.micro_batch_tokens))

    def spending(self, shop: Workshop) -> Spending:
        """What the budget buys, on whatever devices; useful FLOPs are the same on all."""
        how = shop.execution
        return self._fit(self.counts(shop, how.devices), how).spending

    @property
    def groups(self) -> Mine | Given:
        """Those that it draws from, which a teacher may have to score yet."""
        groups = self.draws.groups
        return groups.groups if isinstance(groups, Teach) else groups

    @property
    def untaught(self) -> Draws:
        """The same steps of groups that no teacher has scored yet."""
        return replace(self.draws, groups=self.groups)

    def steps(
        self, shop: Workshop, backbone: "Backbone", fit: Fit, draws: Draws, plan: Spending, run: Run
    ) -> dict[str, Any]:
        """Train `backbone` in place for the steps of `plan`; what `loop.train` tells of it."""
        queries, passages = self.queries.read(shop), self.passages.read(shop)
        for tokens in (queries, passages):
            tokens.check_within(backbone.vocabulary, self.start.blueprint.source)
        texts = queries, passages, (self.queries.length, self.passages.length)
        sampler, at_once = draws.sampler(shop), fit.counts.tokens
        data = TrainingData(sampler, *texts, fit.meter, plan, at_once, fit.caches, self.supervision)
        encoder = instantiate(self.encoder, backbone=backbone)
        return train(encoder, data, self.optimisation, draws.seed, run)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        from lion_sweep.stages import weights

        how, start = shop.execution, self.start
        fit = self.fit(self.counts(shop, how.devices), how)
        backbone = weights.load(start, how, shop.folder(start), sharded=fit.sharded)
        run = Run(how.accelerator, folder, how.checkpoint_every, shop.on_step, shop.progress.kept)
        memory = enough_memory("train", fit.lighter)
        with memory, weights.compiling(shop, "train", backbone) as more:
            facts = self.steps(shop, backbone, fit, self.draws, fit.spending, run)
        weights.save(backbone, folder, how)
        if how.leads:
            write_json(folder / weights.WEIGHTS / weights.MEANT_FOR, dict(self.meant_for))
        own = {"planned": fit.spending.as_dict(), "devices": how.accelerator.num_processes}
        return own | facts | more
