"""The stages of a cell: the one place where they are built from its configuration.

Plans, tasks, runs, status and results ask these objects. Building them does what is cheap and has
to be known for the rest: it imports texts, builds a proxy, reads what a decoder's files say.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import compress
from typing import Any

from lion_sweep.config import Config, TextForm
from lion_sweep.config.schema import Ranker
from lion_sweep.data.marks import Marking
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.stages.audit import AuditTeacher
from lion_sweep.stages.backbone import Blueprint, blueprint
from lion_sweep.stages.base import Stage, ancestry, identity
from lion_sweep.stages.contract import check_form, lengths_of, tokenise
from lion_sweep.stages.course import Amount, Course, Draws
from lion_sweep.stages.encode import CellWeights, Encode, EncodingJob, Weights
from lion_sweep.stages.filtered import Filter, Rank
from lion_sweep.stages.groups import Grouped, groups_of
from lion_sweep.stages.points import asked_of
from lion_sweep.stages.search import Score, Scored, bm25, made_of
from lion_sweep.stages.searches import searches
from lion_sweep.stages.teacher import Teach, scorers_of, teacher_of
from lion_sweep.stages.texts import (
    Asked,
    Chosen,
    Cut,
    EvaluationSets,
    ImportTexts,
    Source,
    Tokenise,
    evaluation_sets,
)
from lion_sweep.stages.train import AdaptDecoder, TrainCell
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.loop import Supervision
from lion_sweep.training.optimisation import Optimisation

Describe = Callable[[Config, Workshop, Source], Blueprint]


@dataclass(frozen=True)
class CellStages:
    """All that a cell comes to; nothing heavy is done yet."""

    sets: EvaluationSets
    groups: Grouped
    teacher: Teach | None  # None: no loss reads its scores
    adapt: AdaptDecoder
    train: TrainCell
    untrained: Scored  # on the cell's own collection
    trained: Mapping[str, Scored]
    bm25: Mapping[str, Score]

    @property
    def blueprint(self) -> Blueprint:
        return self.adapt.blueprint

    @property
    def audit(self) -> AuditTeacher | None:
        """Of the teacher's scores."""
        return self.train.audit

    @cached_property
    def roles(self) -> dict[str, Stage]:
        """Every stage by its title, what is read before what reads it."""
        return made_of((self.untrained, *self.trained.values()), self.bm25.values())

    @cached_property
    def preparation(self) -> tuple[Stage, ...]:
        """What is read and counted before a model does anything; it needs no GPU."""
        heavy = AdaptDecoder | Teach | Encode | Filter
        light = (
            not any(isinstance(one, heavy) for one in ancestry([stage]).values())
            for stage in self.roles.values()
        )
        return tuple(compress(self.roles.values(), light))

    def encoding_jobs(self, jobs: int) -> list[EncodingJob]:
        """So many jobs: the trained passages first, then the untrained ones."""
        encoders = (*self.trained.values(), self.untrained)
        passages = [found.passages for found in encoders]
        return [EncodingJob(passages, number, jobs) for number in range(1, jobs + 1)]

    @property
    def identity(self) -> dict[str, Any]:
        """What the scores are known by."""
        topk = {
            name: {point: tried.score.name for point, tried in found.topk.items()}
            for name, found in self.trained.items()
            if found.topk
        }
        return {
            "untrained": self.untrained.score.name,
            "trained": {name: found.score.name for name, found in self.trained.items()},
            "bm25": {name: score.name for name, score in self.bm25.items()},
            "entropy": {name: found.entropy.name for name, found in self.trained.items()},
            "untrained entropy": self.untrained.entropy.name,
        } | ({"topk": topk} if topk else {})


class Tokeniser:
    """Token caches for one tokenizer: those of the texts that are trained on, and some for others.

    `own` are the former, by the name of their texts.
    """

    def __init__(
        self, tokenizer: Pretrained | Stage, own: Mapping[str, Tokenise] | None = None
    ) -> None:
        self.tokenizer, self.own = tokenizer, own or {}

    def cut(self, texts: ImportTexts, length: int, title: str, text: TextForm, what: str) -> Cut:
        """Texts that are `queries` or `passages`, in their form."""
        called = f"{title} tokens"
        asked = tokenise(texts, self.tokenizer, length, text, what, called)
        own = self.own.get(texts.name)
        if own and length <= own.length and replace(own, length=length) == asked:
            return own.cut(length, echo=text.echo)
        return asked.cut(length, echo=text.echo)


def stages_of(config: Config, shop: Workshop, describe: Describe = blueprint) -> CellStages:
    """The stages of a settled configuration; `describe` finds out about its decoder."""
    sets, recipe, evaluation = evaluation_sets(config, shop), config.recipe, config.evaluation
    own, split = sets[config.data.name]
    decoder = describe(config, shop, own)
    lengths, (query_length, passage_length) = recipe.lengths, evaluation.lengths_of(own.name)
    mntp, tokenizer, seed, text = recipe.adapt, decoder.tokenizer, config.seed, config.paradigm.text
    check_form(text, tokenizer, shop, lengths_of(config, training=True))
    query_length = max(lengths.query, query_length)
    passage_length = max(lengths.passage, passage_length, mntp.length)
    queries = tokenise(own.queries, tokenizer, query_length, text, QUERIES, "query tokens")
    passages = tokenise(own.documents, tokenizer, passage_length, text, PASSAGES, "passage tokens")
    rates, precision = Optimisation.of(recipe, mntp), recipe.precision
    marking = Marking.of(config.paradigm.tokens)
    plain = Tokenise(own.documents, tokenizer, mntp.length, title="MNTP tokens")
    # Without MNTP and a centre no text is read for them.
    shared = not (mntp.steps or mntp.centre) or replace(passages, length=mntp.length) == plain
    chunks = (passages if shared else plain).cut(mntp.length)
    adapt = AdaptDecoder(
        decoder, chunks, mntp, recipe.lora, rates, precision, seed, config.paradigm.attention
    )
    negatives: Grouped = groups_of(config, shop, own)
    if config.negatives.scored:
        stage = Rank if config.negatives.ranked_by is Ranker.teacher else Filter
        negatives = stage(negatives, scorers_of(config, shop, own), config.negatives.margin)
    loss, supervision, encoder = config.loss, Supervision.of(config), config.paradigm.encoder
    course = Course(
        Draws(negatives, loss.batch_size, loss.negatives, seed, loss.sampling),
        queries.cut(lengths.query, echo=text.echo).marked(marking[QUERIES]),
        passages.cut(lengths.passage, echo=text.echo).marked(marking[PASSAGES]),
        decoder,
        recipe.lora,
        supervision.sparse,
        config.paradigm.projected,
        Amount.of(config.budget),
        precision=precision,
        budget=config.budget,
        chunk=mntp.chunk if mntp.steps or mntp.centre else 0,
    )
    teacher, audit = None, None
    if loss.needs_teacher:
        teacher = teacher_of(config, shop, own, course)
        audit = AuditTeacher.of(config, teacher, own.judged[config.data.train_split])

    def asked(texts: ImportTexts) -> Cut:
        """Tokens of queries that training is evaluated on."""
        dev = tokenizer, lengths.query, text, QUERIES, "dev tokens"
        held = queries if texts == own.queries else tokenise(texts, *dev)
        return held.cut(lengths.query, echo=text.echo).marked(marking[QUERIES])

    train = TrainCell(
        adapt,
        course,
        encoder,
        supervision,
        Optimisation.of(recipe, recipe),
        teacher,
        audit=audit,
        meant_for={
            "paradigm": config.paradigm.name,
            "encoder": identity(encoder),
            "attention": config.paradigm.attention.name,
            "text": asdict(text),
            "tokens": asdict(config.paradigm.tokens),
            "base": decoder.key,
            "query_length": evaluation.query_length,
            "passage_length": evaluation.passage_length,
        },
        points=asked_of(config, shop, own, asked),
        alarms=config.alarms,
    )
    caches = {own.queries.name: queries, own.documents.name: passages}
    tokeniser = Tokeniser(tokenizer, caches)
    before, after = (CellWeights(stage, encoder, text=text) for stage in (adapt, train))
    untrained = scored(config, tokeniser, before, (own, split), "untrained ")
    trained = {name: scored(config, tokeniser, after, chosen) for name, chosen in sets.items()}
    references = {name: bm25(config, *chosen) for name, chosen in sets.items()}
    return CellStages(sets, negatives, teacher, adapt, train, untrained, trained, references)


def scored(
    config: Config, tokeniser: Tokeniser, weights: Weights, chosen: Chosen, title: str = ""
) -> Scored:
    """An encoder's stages on a split of a collection; `title` leads their titles."""
    (source, split), evaluation, paradigm = chosen, config.evaluation, config.paradigm
    name, sparse, precision = source.name, paradigm.made_by.over_vocabulary, config.recipe.precision
    query_length, passage_length = evaluation.lengths_of(name)
    marking = Marking.of(paradigm.tokens)

    def encode(texts: ImportTexts, ids: Asked | None, length: int, what: str) -> Encode:
        cut = tokeniser.cut(texts, length, f"{what} {name}", weights.text, what)
        how = cut.marked(marking[what]), ids, sparse, config.kept_terms(what), precision
        called = f"encode {title}{what} {name}"
        return Encode(weights, *how, projected=paradigm.projected, title=called)

    passages = encode(source.documents, None, passage_length, PASSAGES)
    queries = encode(source.queries, Asked(source.judged[split]), query_length, QUERIES)
    return searches(config, chosen, (passages, queries), title)
