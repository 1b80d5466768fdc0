"""Who scores training pairs for distillation: a teacher is a weighted sum of such scorers.

A scorer is a class of its own and a line in `teacher.scorers`, with its weight and its settings.

Shapes: R rows of queries that are drawn, G = 1 + negatives, Q queries, N texts, V vectors, C pairs
at once, D dimensions.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import ScoreKind
from lion_sweep.data.drawn import Drawn
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.teacher import encoder_source, settings_of
from lion_sweep.errors import UserError
from lion_sweep.stages.base import Paid, beside
from lion_sweep.stages.embed import Embed, Rows, load, places
from lion_sweep.stages.texts import Source, Tokenise
from lion_sweep.stages.workshop import Workshop

PAIRS = 2**16  # whose vectors are held at once


class Scorer(ABC):
    """A frozen dataclass whose fields are all that its scores depend on, keyed as in base.py."""

    RULES: ClassVar[int] = 1  # raised when other scores come out of the same fields
    kind: str = ScoreKind.logit  # what its scores are: those of 0 to 1 and -1 to 1 need a scale

    @classmethod
    def of(cls, name: str, pairs: Source, shop: Workshop, **settings: Any) -> Self:
        """Settled: from the name and settings in `teacher.scorers`, for these texts."""
        return cls(**settings)

    def paid(self, drawn: Drawn) -> tuple[Paid, ...]:
        """Stages that are to be paid for: one for each part where trainings are to share them."""
        return ()

    def load(self) -> str:
        """Read its weights, whole; what they are called, and nothing where there are none.

        Raises `UserError` where they cannot be read.
        """
        return ""

    @abstractmethod
    def scores(self, drawn: Drawn, shop: Workshop) -> NDArray[np.float32]:
        """Of all pairs that are drawn, [R, G]."""


@dataclass(frozen=True)
class Own(Scorer):
    """Those that the groups have: BM25's where negatives were mined, or whoever gave them."""

    kind: str = beside(ScoreKind.logit)  # sums of weights of terms, which are log-odds

    def scores(self, drawn: Drawn, shop: Workshop) -> NDArray[np.float32]:
        """As they are. Raises `UserError` where the groups came without scores."""
        if not np.isfinite(drawn.step.teacher_BG).all():
            raise UserError(
                "data.groups has no scores, and the teacher weighs them: choose files with scores, "
                "or a teacher with an encoder and teacher.scorers.own.weight=0."
            )
        return drawn.step.teacher_BG


@dataclass(frozen=True)
class BiEncoder(Scorer):
    """Cosines of a sentence encoder's mean-pooled vectors."""

    kind = ScoreKind.cosine

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

    def load(self) -> str:
        load(self.weights)
        return self.weights.source

    def _embeds(self, drawn: Drawn) -> tuple[list[Embed], list[Embed]]:
        """Of queries and of passages: every text once, in the first part that names it."""
        query_cut, passage_cut = (
            cache.cut(cache.length) for cache in (self.queries, self.passages)
        )
        parts = (query_cut, drawn.queries, "queries"), (passage_cut, drawn.passages, "passages")
        queries, passages = (
            [
                Embed(self.weights, cut, Rows(rows), title=f"teacher embeds {what}")
                for rows in of
                if len(rows)
            ]
            for cut, of, what in parts
        )
        return queries, passages

    def paid(self, drawn: Drawn) -> tuple[Paid, ...]:
        """Its vectors."""
        queries, passages = self._embeds(drawn)
        return (*queries, *passages)

    def scores(self, drawn: Drawn, shop: Workshop) -> NDArray[np.float32]:
        """Passages' vectors are read block by block."""
        queries, passages = self._embeds(drawn)
        query_R = places((one.rows for one in queries), drawn.step.query_B)
        query_QD = np.concatenate([block_CD for _, block_CD in _blocks(queries, shop)])
        passage_RG = drawn.step.passage_BG
        found = np.empty(passage_RG.size, np.float32)
        place = places((one.rows for one in passages), passage_RG.ravel())
        order = np.argsort(place, kind="stable")
        sorted_place = place[order]
        for start, block_VD in _blocks(passages, shop):
            ends = np.searchsorted(sorted_place, [start, start + len(block_VD)])
            for first in range(ends[0], ends[1], PAIRS):
                pair_C = order[first : min(first + PAIRS, ends[1])]
                asked_CD = query_QD[query_R[pair_C // passage_RG.shape[1]]]
                found[pair_C] = np.einsum("cd,cd->c", asked_CD, block_VD[place[pair_C] - start])
        return found.reshape(passage_RG.shape)


def _blocks(embeds: list[Embed], shop: Workshop) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(place of the first vector, vectors of a block, [C, D]), embedded where they are not yet."""
    before = 0
    for embed in embeds:
        for start, block_CD in embed.read(shop).blocks():
            yield before + start, block_CD
        before += len(embed.rows.of)
