"""A cross-encoder as a teacher: a sequence classifier that reads a query and a passage together.

Shapes: R rows of queries that are drawn, G = 1 + negatives, C pairs.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

from lion_sweep.data.drawn import Drawn
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.teacher import encoder_source, longest_of
from lion_sweep.errors import UserError
from lion_sweep.stages.base import Paid
from lion_sweep.stages.embed import Rows
from lion_sweep.stages.score_pairs import ScorePairs, load
from lion_sweep.stages.scorers import Scorer
from lion_sweep.stages.texts import Source, Tokenise
from lion_sweep.stages.workshop import Workshop


@dataclass(frozen=True)
class CrossEncoder(Scorer):
    """Logits of pairs, every one once, whatever trainings draw it.

    Its own logits, before any activation that its authors put behind them; of two labels, the
    log-odds of the second.
    """

    weights: Pretrained
    queries: Tokenise
    passages: Tokenise

    @classmethod
    def of(  # type: ignore[override]
        cls, name: str, pairs: Source, shop: Workshop, *, model: str, length: int
    ) -> Self:
        """`model` is a Hugging Face id, a folder, or package:NAME; `length` bounds a pair: the
        query is read whole, and what is left of the passage.

        Raises `UserError` for a model that scores no pairs, or none of that length.
        """
        source = encoder_source(model)
        weights = Pretrained.weights(source, shop.digests)
        key, config = f"teacher.scorers.{name}", weights.config()
        check(key, model, config)
        longest = longest_of(source, config) or length
        if not 8 <= length <= longest:
            raise UserError(
                f"{key}.length={length} tokens of a pair: choose 8 to {longest}, which {model} "
                "reads."
            )
        tokenizer = Pretrained.tokenizer(source, shop.digests)
        queries, passages = (
            Tokenise(texts, tokenizer, length, title=f"teacher {name} {what} tokens")
            for texts, what in ((pairs.queries, "query"), (pairs.documents, "passage"))
        )
        return cls(weights, queries, passages)

    def load(self) -> str:
        load(self.weights)
        return self.weights.source

    def _parts(self, drawn: Drawn) -> list[ScorePairs]:
        queries, passages = (cache.cut(cache.length) for cache in (self.queries, self.passages))
        return [
            ScorePairs(self.weights, queries, passages, Rows(pair_C2), title="teacher scores pairs")
            for pair_C2 in drawn.pairs
            if len(pair_C2)
        ]

    def paid(self, drawn: Drawn) -> tuple[Paid, ...]:
        """Scores of the pairs that each part is the first to name."""
        return tuple(self._parts(drawn))

    def scores(self, drawn: Drawn, shop: Workshop) -> NDArray[np.float32]:
        parts = self._parts(drawn)
        score_C = np.concatenate([part.read(shop) for part in parts])
        pair_C2, step = np.concatenate([part.pairs.of for part in parts]), drawn.step
        passages = int(step.passage_BG.max()) + 1
        known_C = pair_C2 @ [passages, 1]
        order_C = np.argsort(known_C)
        asked_RG = step.query_B.astype(np.int64)[:, None] * passages + step.passage_BG
        found_RG: NDArray[np.float32] = score_C[
            order_C[np.searchsorted(known_C, asked_RG, sorter=order_C)]
        ]
        return found_RG


def check(key: str, model: str, config: PretrainedConfig) -> None:
    """Refuse what has no score of a pair, or reads pairs in a form of its own."""
    if config.num_labels not in (1, 2):
        raise UserError(
            f"{key}.model={model} tells {config.num_labels} labels apart, and a teacher has a "
            "score: take a model with one label, or with two, the second of which is relevant."
        )
    if hasattr(config, "num_key_value_heads"):
        raise UserError(
            f"{key}.model={model} is a decoder ({config.model_type}), which reads pairs in a form "
            "of its own: score them with its own code, and give the scores with data.groups."
        )
