"""Who scores training pairs for distillation: a teacher is a weighted sum of such scorers.

A scorer is a class of its own and a line in `teacher.scorers`, with its weight and its settings.

Shapes: P training pairs, M mined negatives, Q queries, R rows of passages, C pairs at once, D
dimensions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lion_sweep.cost.meter import Spending
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.teacher import encoder_source, settings_of
from lion_sweep.errors import UserError
from lion_sweep.stages.embed import Embed, Rows
from lion_sweep.stages.texts import Source, Tokenise
from lion_sweep.stages.workshop import Workshop

PAIRS = 2**16  # whose vectors are held at once
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

    def _embeds(self, groups: Groups) -> tuple[Embed, Embed]:
        """Every query and passage that the groups speak of, once."""
        queries, documents = (Rows(rows) for rows in mentioned(groups))
        query_cut, passage_cut = (
            cache.cut(cache.length) for cache in (self.queries, self.passages)
        )
        return (
            Embed(self.weights, query_cut, queries, title="teacher embeds queries"),
            Embed(self.weights, passage_cut, documents, title="teacher embeds passages"),
        )

    def planned(self, groups: Groups, shop: Workshop) -> Spending:
        """Every text that the groups speak of, once."""
        return sum((embed.planned(shop) for embed in self._embeds(groups)), Spending())

    def scores(self, groups: Groups, shop: Workshop) -> tuple[Scores, Spending]:
        """Of a missing negative, the positive's; passages' vectors are read block by block."""
        queries, documents = self._embeds(groups)
        query_P = np.searchsorted(queries.rows.of, groups.query_P)
        query_QD, passages = queries.read(shop).all(), documents.read(shop)
        filled_PM = np.where(
            groups.negative_PM == MISSING, groups.positive_P[:, None], groups.negative_PM
        )
        scores = np.empty(len(groups), np.float32), np.empty(filled_PM.shape, np.float32)
        for start, block_RD in passages.blocks():
            rows_R = documents.rows.of[start : start + len(block_RD)]
            for found, asked in zip(scores, (groups.positive_P, filled_PM), strict=True):
                places = np.nonzero((asked >= rows_R[0]) & (asked <= rows_R[-1]))
                for first in range(0, len(places[0]), PAIRS):
                    some = tuple(place[first : first + PAIRS] for place in places)
                    document_CD = block_RD[np.searchsorted(rows_R, asked[some])]
                    found[some] = np.einsum("cd,cd->c", query_QD[query_P[some[0]]], document_CD)
        spent = (Spending(**shop.run(embed).facts["spent"]) for embed in (queries, documents))
        return scores, sum(spent, Spending())


def mentioned(groups: Groups) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the queries and of the documents in `groups`, each once, ascending."""
    last = max(int(groups.positive_P.max()), int(groups.negative_PM.max()))
    there_N = np.zeros(last + 2, dtype=bool)  # the place after the last is that of MISSING
    for rows_P in (groups.positive_P, *groups.negative_PM.T):
        there_N[rows_P] = True
    return np.unique(groups.query_P).astype(np.int64), np.flatnonzero(there_N[:-1])
