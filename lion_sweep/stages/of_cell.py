"""The stages of a cell: the one place where they are built from its configuration.

Plans, tasks, runs, status and results ask these objects. Building them does what is cheap and has
to be known for the rest: it imports texts, builds a proxy, reads what a decoder's files say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lion_sweep.config import Config
from lion_sweep.data.collection import Collection
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.texts import Texts
from lion_sweep.stages.adapt import AdaptDecoder
from lion_sweep.stages.backbone import Asked, Blueprint, blueprint
from lion_sweep.stages.base import Stage, ancestry, identity
from lion_sweep.stages.encode import CellWeights, Encode, EncodingJob, Weights
from lion_sweep.stages.negatives import Given, Mine, groups_of
from lion_sweep.stages.score import Score, Scored, bm25
from lion_sweep.stages.search import Search, engine_of
from lion_sweep.stages.teacher import Teach, teacher_of
from lion_sweep.stages.texts import EvaluationSets, evaluation_sets
from lion_sweep.stages.tokens import Cut, Tokenise
from lion_sweep.stages.train import Amount, Draws, TrainCell
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.settings import Optimisation, Supervision

Describe = Callable[[Config, Workshop, Collection], Blueprint]


@dataclass(frozen=True)
class CellStages:
    """All that a cell comes to; nothing heavy is done yet."""

    sets: EvaluationSets
    negatives: Mine | Given
    teacher: Teach | None  # None: no loss reads its scores
    adapt: AdaptDecoder
    train: TrainCell
    untrained: Scored  # on the cell's own collection
    trained: Mapping[str, Scored]
    bm25: Mapping[str, Score]

    @property
    def blueprint(self) -> Blueprint:
        """Of the decoder."""
        return self.adapt.blueprint

    @cached_property
    def roles(self) -> dict[str, Stage]:
        """Every stage by its title, what is read before what reads it."""
        scores = (found.score for found in (self.untrained, *self.trained.values()))
        return ancestry((*scores, *self.bm25.values()))

    def encoding_jobs(self, jobs: int) -> list[EncodingJob]:
        """So many jobs: the trained passages first, then the untrained ones."""
        encoders = (*self.trained.values(), self.untrained)
        passages = [found.passages for found in encoders]
        return [EncodingJob(passages, number, jobs) for number in range(1, jobs + 1)]

    @property
    def checksums(self) -> dict[str, str]:
        """Of everything that is scored, by name."""
        return {name: tested.checksum for name, (tested, _) in self.sets.items()}

    @property
    def identity(self) -> dict[str, Any]:
        """What the scores are known by."""
        return {
            "untrained": self.untrained.score.name,
            "trained": {name: found.score.name for name, found in self.trained.items()},
            "bm25": {name: score.name for name, score in self.bm25.items()},
        }


class Tokeniser:
    """Token caches for one tokenizer: that of the texts that are trained on, and one for others."""

    def __init__(self, tokenizer: Pretrained, own: Mapping[str, Tokenise] | None = None) -> None:
        self.tokenizer, self.own = tokenizer, own or {}

    def cut(self, texts: Texts, length: int, title: str) -> Cut:
        """The first `length` tokens of these texts."""
        own = self.own.get(texts.identity)
        if own and length <= own.length:
            return own.cut(length)
        return Tokenise(texts, self.tokenizer, length, title=f"{title} tokens").cut(length)


def stages_of(config: Config, shop: Workshop, describe: Describe = blueprint) -> CellStages:
    """The stages of a settled configuration; `describe` finds out about its decoder."""
    sets, recipe, evaluation = evaluation_sets(config, shop), config.recipe, config.evaluation
    own, split = sets[config.data.name]
    decoder = describe(config, shop, own)
    lengths, (query_length, passage_length) = recipe.lengths, evaluation.lengths_of(own.name)
    longest = max(lengths.passage, passage_length, recipe.adapt.length)
    queries = Tokenise(
        own.queries, decoder.tokenizer, max(lengths.query, query_length), title="query tokens"
    )
    passages = Tokenise(own.documents, decoder.tokenizer, longest, title="passage tokens")
    caches = {own.queries.identity: queries, own.documents.identity: passages}
    chunks = passages.cut(recipe.adapt.length)
    rates = Optimisation.of(recipe, recipe.adapt.learning_rate, recipe.adapt.embedding_rate)
    adapt = AdaptDecoder(
        decoder, chunks, recipe.adapt, recipe.lora, rates, recipe.precision, config.seed
    )
    negatives = groups_of(config, shop, own)
    teacher = teacher_of(config, shop, own, negatives) if config.loss.needs_teacher else None
    encoder = config.paradigm.encoder
    train = TrainCell(
        adapt,
        Draws(teacher or negatives, config.loss.batch_size, config.loss.negatives, config.seed),
        queries.cut(lengths.query),
        passages.cut(lengths.passage),
        encoder,
        Supervision.of(config),
        Optimisation.of(recipe, recipe.learning_rate, recipe.embedding_rate),
        Amount.of(config.budget),
        budget=config.budget,
        meant_for=meant_for(config, decoder.key),
    )
    tokeniser = Tokeniser(decoder.tokenizer, caches)
    before, after = CellWeights(adapt, encoder), CellWeights(train, encoder)
    untrained = scored(config, tokeniser, before, (own, split), "untrained ")
    trained = {name: scored(config, tokeniser, after, chosen) for name, chosen in sets.items()}
    references = {name: bm25(config, *chosen) for name, chosen in sets.items()}
    return CellStages(sets, negatives, teacher, adapt, train, untrained, trained, references)


def meant_for(config: Config, base: str) -> dict[str, Any]:
    """What the weights alone do not tell whoever finds them."""
    return {
        "paradigm": config.paradigm.name,
        "encoder": identity(config.paradigm.encoder),
        "base": base,
        "query_length": config.evaluation.query_length,
        "passage_length": config.evaluation.passage_length,
    }


def scored(
    config: Config,
    tokeniser: Tokeniser,
    weights: Weights,
    chosen: tuple[Collection, str],
    title: str = "",
) -> Scored:
    """An encoder's stages on a split of a collection; `title` leads their titles."""
    evaluation, (collection, split) = config.evaluation, chosen
    name, encoder, precision = collection.name, config.paradigm.made_by, config.recipe.precision
    terms = encoder.over_vocabulary
    query_length, passage_length = evaluation.lengths_of(name)
    judged = collection.judgements(split)
    asked = Asked(collection.queries, collection.asked(split))

    def encode(texts: Texts, ids: Asked | None, length: int, what: str) -> Encode:
        tokens, called = tokeniser.cut(texts, length, f"{what} {name}"), f"{title}{what} {name}"
        kept = evaluation.kept_terms if terms else None
        return Encode(weights, tokens, ids, terms, kept, precision, title=f"encode {called}")

    passages = encode(collection.documents, None, passage_length, "passages")
    queries = encode(collection.queries, asked, query_length, "queries")
    documents, engine, called = collection.documents, engine_of(config, encoder.kind), title + name
    searched = Search(
        passages, queries, documents, asked, engine, evaluation.depth, title=f"search {called}"
    )
    score = Score(searched, judged, evaluation.measures_of(name), title=f"score {called}")
    return Scored(passages, queries, searched, score)
