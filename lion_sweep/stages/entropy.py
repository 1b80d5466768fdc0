"""Contrastive entropy of an encoder on a collection, from vectors that are there already.

Shapes: Q queries, C sampled candidates of a query, P pairs; X is what one text has.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from lion_sweep.config.paradigm import Paradigm
from lion_sweep.data.pool import pool
from lion_sweep.data.ragged import Ragged
from lion_sweep.evaluation.entropy import PairScores, entropies, inner_products, pair_scores
from lion_sweep.files import read_json, write_json
from lion_sweep.losses.representations import InnerProduct
from lion_sweep.search.encoding import Vectors
from lion_sweep.stages.base import Stage
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.prune import Prune
from lion_sweep.stages.texts import ImportJudgements
from lion_sweep.stages.workshop import Workshop

ENTROPY, PER_QUERY = "entropy", "per_query.json"


@dataclass(frozen=True)
class Scoring:
    """How a paradigm makes a score that its losses read of two vectors."""

    temperature: float  # divides it
    own: bool  # whether the encoder does it; else it is the inner product

    @classmethod
    def of(cls, paradigm: Paradigm) -> Self:
        own = paradigm.made_by.group_scores_BG is not InnerProduct.group_scores_BG
        return cls(paradigm.temperature, own)

    def of_vectors(self, encoded: Encode | Prune, shop: Workshop) -> PairScores:
        """Scores of vectors that the same encoder makes, not divided yet; the paradigm's own take
        the encoder, weights and all."""
        if not self.own:
            return inner_products
        encoder, device = encoded.loaded(shop), shop.execution.accelerator.device

        def score(query_PX: Vectors, passage_PX: Vectors) -> NDArray[np.floating]:
            both = (_padded(one) for one in (query_PX, passage_PX))
            query_BX, passage_BX = (torch.from_numpy(one).to(device) for one in both)
            with torch.no_grad():
                return encoder.group_scores_BG(query_BX, passage_BX[:, None])[:, 0].cpu().numpy()

        return score


@dataclass(frozen=True, eq=False)
class Entropy(Stage):
    """In nats, per query with a relevant passage that is there."""

    kind = "entropy"
    RULES = 1  # raised too when data/pool.py draws other candidates

    judged: ImportJudgements
    passages: Encode | Prune
    queries: Encode | Prune
    scoring: Scoring

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """The mean over the queries, how many these are, and how many candidates each has.

        Where no query has both a relevant passage and another one, there is no mean.
        """
        judged, documents = self.judged.read(shop), self.judged.documents.read(shop)
        try:
            found = pool(judged, len(documents))
        except ValueError:
            write_json(folder / PER_QUERY, {ENTROPY: {}})
            return {"mean": None, "queries": 0, "candidates": 0}
        place_Q = _places(judged.asked_rows, found.query_Q)
        ids = [judged.asked[place] for place in place_Q.tolist()]
        query_P = np.concatenate([place_Q[found.asked_P], place_Q.repeat(found.candidates)])
        passage_P = np.concatenate([found.relevant_P, found.candidate_QC.ravel()])
        score_P = self._scores(shop, query_P, passage_P) / self.scoring.temperature
        relevant_P, candidate_QC = np.split(score_P, [len(found.relevant_P)])
        candidate_QC = candidate_QC.reshape(found.candidate_QC.shape)
        # No query finds itself, as in search.
        candidate_QC[found.candidate_QC == documents.rows(ids)[:, None]] = -np.inf
        entropy_Q = entropies(relevant_P, found.asked_P, candidate_QC)
        write_json(folder / PER_QUERY, {ENTROPY: dict(zip(ids, entropy_Q.tolist(), strict=True))})
        mean = float(entropy_Q.mean())
        counts = {"queries": len(ids), "candidates": found.candidates}
        return {"mean": mean if np.isfinite(mean) else None} | counts

    def _scores(
        self, shop: Workshop, query_P: NDArray[np.int64], passage_P: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        passages, queries = self.passages.read(shop), self.queries.read(shop)
        score, pairs = self.scoring.of_vectors(self.passages, shop), (query_P, passage_P)
        return pair_scores(queries.all(), passages, pairs, score, shop.progress.step)

    def values(self, shop: Workshop) -> dict[str, dict[str, float]]:
        """{"entropy": {query id: value}}."""
        return read_json(shop.folder(self) / PER_QUERY)

    def mean(self, shop: Workshop) -> float | None:
        """Over the queries; None where there is none, or it is no number."""
        return shop.run(self).facts["mean"]


def _padded(vectors: Vectors) -> NDArray[np.floating]:
    """As losses read them, [P, *X]."""
    if isinstance(vectors, Ragged):
        return vectors.padded()
    return vectors.toarray() if sparse.issparse(vectors) else vectors


def _places(asked_A: NDArray[np.int64], row_Q: NDArray[np.int64]) -> NDArray[np.int64]:
    """[Q], where each row stands among `asked_A`, which has them all."""
    order_A = np.argsort(asked_A)
    return order_A[np.searchsorted(asked_A[order_A], row_Q)]
