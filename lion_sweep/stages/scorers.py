"""Who scores training pairs for distillation: a teacher is a weighted sum of such scorers.

A scorer is a class of its own and a line in `teacher.scorers`, with its weight and its settings.

Shapes: P training pairs, M mined negatives, N texts, D dimensions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.teacher import (
    BATCH_TOKENS,
    Mentioned,
    embed,
    encoder_source,
    mentioned,
    settings_of,
)
from lion_sweep.data.tokens import Tokens
from lion_sweep.errors import UserError
from lion_sweep.stages.texts import Source, Tokenise
from lion_sweep.stages.workshop import Workshop

Scores = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Of the positives, [P], and of the negatives, [P, M]; where one is missing, anything finite."""


class Scorer(ABC):
    """A frozen dataclass whose fields are all that its scores depend on, keyed as in base.py."""

    RULES: ClassVar[int] = 1  # raised when other scores come out of the same fields

    @classmethod
    def of(cls, name: str, pairs: Source, shop: Workshop, **settings: Any) -> Self:
        """Settled: from the name and settings in `teacher.scorers`, for these texts."""
        return cls(**settings)

    def planned(self, groups: Groups, shop: Workshop) -> Spending:
        return Spending()

    @abstractmethod
    def scores(self, groups: Groups, shop: Workshop) -> tuple[Scores, Spending]:
        """Scores of all pairs of the groups, and what they cost."""


@dataclass(frozen=True)
class Own(Scorer):
    """Those that the groups have: BM25's where negatives were mined, or whoever gave them."""

    def scores(self, groups: Groups, shop: Workshop) -> tuple[Scores, Spending]:
        """As they are. Raises `UserError` where the groups came without scores."""
        if not np.isfinite(groups.positive_score_P).all():
            raise UserError(
                "data.groups has no scores, and the teacher weighs them: choose files with scores, "
                "or a teacher with an encoder and teacher.scorers.own.weight=0."
            )
        return (groups.positive_score_P, groups.negative_score_PM), Spending()


@dataclass(frozen=True)
class BiEncoder(Scorer):
    """Cosines of a sentence encoder's mean-pooled vectors."""

    weights: Pretrained
    queries: Tokenise
    passages: Tokenise

    @classmethod
    def of(  # type: ignore[override]
        cls, name: str, pairs: Source, shop: Workshop, *, model: str, length: int
    ) -> Self:
        """`model` is a Hugging Face id, a folder, or package:NAME; `length` bounds a text."""
        source = encoder_source(model)
        tokenizer = Pretrained.tokenizer(source, shop.digests)
        prompts = settings_of(tokenizer.source)
        queries, passages = (
            Tokenise(texts, tokenizer, length, prompts[of], title=f"teacher {name} {what} tokens")
            for texts, what, of in (
                (pairs.queries, "query", "queries"),
                (pairs.documents, "passage", "passages"),
            )
        )
        return cls(Pretrained.weights(source, shop.digests), queries, passages)

    def _asked(self, groups: Groups, shop: Workshop) -> tuple[Mentioned, list[Tokens], Meter]:
        """Queries and documents of the groups, the tokens of all, and what reading them costs."""
        tokens = [cache.cut(cache.length).read(shop) for cache in (self.queries, self.passages)]
        meter = Meter.of_teacher(self.weights.config(), self.queries.length)
        return mentioned(groups), tokens, meter

    def planned(self, groups: Groups, shop: Workshop) -> Spending:
        """Every text that the groups speak of, once."""
        (queries, documents), tokens, meter = self._asked(groups, shop)
        query_N, document_N = (np.diff(cached.start_N) for cached in tokens)
        asked = meter.texts(query_N[queries], BATCH_TOKENS)
        return asked + meter.texts(document_N[documents], BATCH_TOKENS)

    def scores(self, groups: Groups, shop: Workshop) -> tuple[Scores, Spending]:
        """Of a missing negative, the positive's."""
        (queries, documents), tokens, meter = self._asked(groups, shop)
        asked = [tokens[0].subset(queries), tokens[1].subset(documents)]
        (query_ND, document_ND), spent = embed(self.weights, asked, meter, shop.progress.step)
        query_PD = query_ND[np.searchsorted(queries, groups.query_P)]

        def cosine(rows_P: NDArray[np.int32]) -> NDArray[np.float32]:
            vectors_PD = document_ND[np.searchsorted(documents, rows_P)]
            return np.einsum("pd,pd->p", query_PD, vectors_PD)

        negative_PM = np.empty_like(groups.negative_score_PM)
        for column, rows_P in enumerate(groups.negative_PM.T):
            filled_P = np.where(rows_P == MISSING, groups.positive_P, rows_P)
            negative_PM[:, column] = cosine(filled_P)
        return (cosine(groups.positive_P), negative_PM), spent
