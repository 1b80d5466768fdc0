"""The stages of a cell: the one place where they are built from its configuration.

Plans, tasks, runs, status and results ask these objects. Building them does what is cheap and has
to be known for the rest: it imports texts, builds a proxy, reads what a decoder's files say.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import compress
from typing import Any

from lion_sweep.config import Config
from lion_sweep.data.marks import Marking
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.stages.backbone import Blueprint, blueprint
from lion_sweep.stages.base import Stage, ancestry, identity
from lion_sweep.stages.course import Amount, Course, Draws
from lion_sweep.stages.encode import CellWeights, Encode, EncodingJob, Weights
from lion_sweep.stages.entropy import Entropy, Scoring
from lion_sweep.stages.groups import Given, Mine, groups_of
from lion_sweep.stages.index import engine_of
from lion_sweep.stages.points import asked_of
from lion_sweep.stages.search import Score, Scored, Search, bm25
from lion_sweep.stages.teacher import Teach, teacher_of
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
    groups: Mine | Given
    teacher: Teach | None  # None: no loss reads its scores
    adapt: AdaptDecoder
    train: TrainCell
    untrained: Scored  # on the cell's own collection
    trained: Mapping[str, Scored]
    bm25: Mapping[str, Score]

    @property
    def blueprint(self) -> Blueprint:
        return self.adapt.blueprint

    @cached_property
    def roles(self) -> dict[str, Stage]:
        """Every stage by its title, what is read before what reads it."""
        encoders = (self.untrained, *self.trained.values())
        scores = (found.score for found in encoders)
        return ancestry((*scores, *self.bm25.values(), *(found.entropy for found in encoders)))

    @cached_property
    def preparation(self) -> tuple[Stage, ...]:
        """What is read and counted before anything is trained or taught; it needs no GPU."""
        heavy = AdaptDecoder | Teach
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
        return {
            "untrained": self.untrained.score.name,
            "trained": {name: found.score.name for name, found in self.trained.items()},
            "bm25": {name: score.name for name, score in self.bm25.items()},
            "entropy": {name: found.entropy.name for name, found in self.trained.items()},
            "untrained entropy": self.untrained.entropy.name,
        }


class Tokeniser:
    """Token caches for one tokenizer: that of the texts that are trained on, and one for others."""

    def __init__(
        self, tokenizer: Pretrained | Stage, own: Mapping[str, Tokenise] | None = None
    ) -> None:
        self.tokenizer, self.own = tokenizer, own or {}

    def cut(
        self, texts: ImportTexts, length: int, title: str, marking: Marking, prompt: str = ""
    ) -> Cut:
        own = self.own.get(texts.name)
        if own and length <= own.length and not prompt:
            return own.cut(length, marking)
        cache = Tokenise(texts, self.tokenizer, length, prompt, title=f"{title} tokens")
        return cache.cut(length, marking)


def stages_of(config: Config, shop: Workshop, describe: Describe = blueprint) -> CellStages:
    """The stages of a settled configuration; `describe` finds out about its decoder."""
    sets, recipe, evaluation = evaluation_sets(config, shop), config.recipe, config.evaluation
    own, split = sets[config.data.name]
    decoder = describe(config, shop, own)
    lengths, (query_length, passage_length) = recipe.lengths, evaluation.lengths_of(own.name)
    mntp, tokenizer, seed = recipe.adapt, decoder.tokenizer, config.seed
    query_length = max(lengths.query, query_length)
    passage_length = max(lengths.passage, passage_length, mntp.length)
    queries = Tokenise(own.queries, tokenizer, query_length, title="query tokens")
    passages = Tokenise(own.documents, tokenizer, passage_length, title="passage tokens")
    rates, precision = Optimisation.of(recipe, mntp), recipe.precision
    chunks, marking = passages.cut(mntp.length), Marking.of(config.paradigm.tokens)
    adapt = AdaptDecoder(decoder, chunks, mntp, recipe.lora, rates, precision, seed)
    negatives = groups_of(config, shop, own)
    loss, supervision, encoder = config.loss, Supervision.of(config), config.paradigm.encoder
    course = Course(
        Draws(negatives, loss.batch_size, loss.negatives, seed),
        queries.cut(lengths.query, marking["queries"]),
        passages.cut(lengths.passage, marking["passages"]),
        decoder,
        recipe.lora,
        supervision.sparse,
        config.paradigm.projected,
        Amount.of(config.budget),
        precision=precision,
        budget=config.budget,
        chunk=mntp.chunk if mntp.steps else 0,
    )
    teacher = teacher_of(config, shop, own, course) if loss.needs_teacher else None

    def asked(texts: ImportTexts) -> Cut:
        """Tokens of queries that training is evaluated on."""
        mine = texts == own.queries
        held = queries if mine else Tokenise(texts, tokenizer, lengths.query, title="dev tokens")
        return held.cut(lengths.query, marking["queries"])

    train = TrainCell(
        adapt,
        course,
        encoder,
        supervision,
        Optimisation.of(recipe, recipe),
        teacher,
        meant_for={
            "paradigm": config.paradigm.name,
            "encoder": identity(encoder),
            "tokens": asdict(config.paradigm.tokens),
            "base": decoder.key,
            "query_length": evaluation.query_length,
            "passage_length": evaluation.passage_length,
        },
        points=asked_of(config, shop, own, asked),
    )
    caches = {own.queries.name: queries, own.documents.name: passages}
    tokeniser = Tokeniser(tokenizer, caches)
    before, after = CellWeights(adapt, encoder), CellWeights(train, encoder)
    untrained = scored(config, tokeniser, before, (own, split), "untrained ")
    trained = {name: scored(config, tokeniser, after, chosen) for name, chosen in sets.items()}
    references = {name: bm25(config, *chosen) for name, chosen in sets.items()}
    return CellStages(sets, negatives, teacher, adapt, train, untrained, trained, references)


def scored(
    config: Config, tokeniser: Tokeniser, weights: Weights, chosen: Chosen, title: str = ""
) -> Scored:
    """An encoder's stages on a split of a collection; `title` leads their titles."""
    (source, split), evaluation, made_by = chosen, config.evaluation, config.paradigm.made_by
    name, sparse, precision = source.name, made_by.over_vocabulary, config.recipe.precision
    projected, marking = config.paradigm.projected, Marking.of(config.paradigm.tokens)
    kept = evaluation.kept_terms if sparse else None
    query_length, passage_length = evaluation.lengths_of(name)
    judged = source.judged[split]

    def encode(texts: ImportTexts, ids: Asked | None, length: int, what: str) -> Encode:
        prompt, called = weights.prompts.get(what, ""), f"{title}{what} {name}"
        tokens = tokeniser.cut(texts, length, f"{what} {name}", marking[what], prompt)
        how = sparse, kept, precision
        return Encode(weights, tokens, ids, *how, projected=projected, title=f"encode {called}")

    passages = encode(source.documents, None, passage_length, "passages")
    queries = encode(source.queries, Asked(judged), query_length, "queries")
    how, called = (engine_of(config, made_by.kind), evaluation.depth), title + name
    searched = Search(judged, *how, passages=passages, queries=queries, title=f"search {called}")
    score = Score(searched, judged, evaluation.measures_of(name), title=f"score {called}")
    scoring = Scoring.of(config.paradigm)
    entropy = Entropy(judged, passages, queries, scoring, title=f"entropy {called}")
    return Scored(passages, queries, searched, score, entropy)
