"""What cells start from, masked next-token prediction, and a cell's own training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lion_sweep.config import Adapt, Alarms, Attention, Lora, Precision
from lion_sweep.cost.memory import Decoder
from lion_sweep.cost.meter import Spending, planned_mntp
from lion_sweep.data.batches import Sampler
from lion_sweep.files import write_json
from lion_sweep.machine.devices import enough_memory
from lion_sweep.stages.audit import AuditTeacher
from lion_sweep.stages.backbone import Blueprint
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.course import Course
from lion_sweep.stages.points import Asked
from lion_sweep.stages.teacher import SCORES, Teach
from lion_sweep.stages.texts import Cut, tokenizer_of
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.fit import Fit, fit_chunks
from lion_sweep.training.loop import Supervision, TrainingData, train
from lion_sweep.training.optimisation import Optimisation, Run

if TYPE_CHECKING:  # importing the models takes seconds, which a plan need not wait
    from lion_sweep.models.backbone import Backbone


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
    attention: Attention = Attention.bidirectional

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


@dataclass(frozen=True, eq=False)
class TrainCell(Stage):
    """From adapted weights to trained ones."""

    kind = "train"
    together = True

    start: AdaptDecoder
    course: Course
    encoder: Mapping[str, Any]
    supervision: Supervision
    optimisation: Optimisation
    teacher: Teach | None  # None: no loss reads its scores
    audit: AuditTeacher | None = beside(None)  # of these, which stops a cell, and changes no weight
    meant_for: Mapping[str, Any] = beside()  # what the weights alone do not tell who finds them
    points: Asked | None = beside(None)  # evaluations on the way, which change no weight
    alarms: Alarms | None = beside(None)  # what may stop it

    @property
    def decoder(self) -> Decoder:
        """With what the encoder trains besides."""
        return self.course.decoder

    def steps(
        self,
        shop: Workshop,
        backbone: "Backbone",
        fit: Fit,
        sampler: Sampler,
        plan: Spending,
        run: Run,
    ) -> dict[str, Any]:
        """Train `backbone` in place for the steps of `plan`; what `loop.train` tells of it."""
        from lion_sweep.stages import weights  # which imports the models: seconds

        course = self.course
        queries, passages = course.queries.read(shop), course.passages.read(shop)
        encoder, source = weights.encoder_of(self.encoder, backbone), self.start.blueprint.source
        for tokens in (queries, passages):
            tokens.check_within(backbone.vocabulary, source)
            if encoder.reads_bos:
                tokens.check_begin(backbone.bos, source)
        texts = queries, passages, (course.queries.length, course.passages.length)
        at_once, supervision = fit.counts.tokens, self.supervision
        data = TrainingData(sampler, *texts, fit.meter, plan, at_once, fit.caches, supervision)
        return train(encoder, data, self.optimisation, course.draws.seed, run)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        from lion_sweep.stages import weights

        how, start, course = shop.execution, self.start, self.course
        fit = course.fit(course.counts(shop, how.devices), how)
        scores = shop.folder(self.teacher) / SCORES if self.teacher else None
        sampler = course.draws.sampler(shop, scores)
        backbone = weights.load(start, how, shop.folder(start), sharded=fit.sharded)
        points, planned = self.points.read(shop) if self.points else None, fit.spending

        def on_step(done: int, total: int, values: dict[str, float]) -> None:
            shop.progress.step(done, total, values)
            shop.on_record(folder, planned.as_dict())

        shop.on_record(folder, planned.as_dict())  # a collapse may come before the end of a step
        kept = how.checkpoint_every, on_step, shop.progress.kept
        run = Run(how.accelerator, folder, *kept, points, self.alarms)
        memory = enough_memory("train", fit.lighter)
        with memory, weights.compiling(shop, "train", backbone) as more:
            facts = self.steps(shop, backbone, fit, sampler, planned, run)
        weights.save(backbone, folder, how)
        if how.leads:
            write_json(folder / weights.WEIGHTS / weights.MEANT_FOR, dict(self.meant_for))
        own: dict[str, Any] = {"planned": planned.as_dict()}
        own["devices"] = how.accelerator.num_processes
        if self.points and points:
            own["points"] = self.points.told | {"queries": len(points.query_Q)}
        return own | facts | more
