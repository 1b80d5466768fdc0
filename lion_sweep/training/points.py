"""How good a model is while it trains: a few fixed queries against one small pool of passages.

The pool holds what is relevant to these queries and a few sampled passages of each. Every query is
scored against all of it, so that few texts have to be encoded: what is relevant to it against
everything that is not.

Shapes: Q queries, P passages of the pool, R relevant pairs, V what a vector has.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.pool import pool
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.training.embedding import Embedding

if TYPE_CHECKING:
    from lion_sweep.data.collection import Judged
    from lion_sweep.data.tokens import Tokens
    from lion_sweep.models.encoders import Encoder
    from lion_sweep.training.loop import TrainingData

SAMPLED = 4  # passages of a query, besides its relevant ones
DEPTH = 10  # of MRR


@dataclass(frozen=True)
class Points:
    """When to evaluate, and on what: tokens of the queries, and of the passages they ask."""

    count: int
    queries: "Tokens"  # all of them, as the passages
    query_Q: NDArray[np.int64]  # rows
    passage_P: NDArray[np.int64]
    relevant_QP: NDArray[np.bool_]

    @classmethod
    def of(cls, count: int, judged: "Judged", queries: "Tokens", documents: int) -> "Points":
        """On the judgements of some queries. Raises `ValueError` where none can be used."""
        found = pool(judged, documents, SAMPLED)
        passage_P = np.unique(np.concatenate([found.relevant_P, found.candidate_QC.ravel()]))
        relevant_QP = np.zeros((len(found.query_Q), len(passage_P)), dtype=bool)
        # As sampled passages of one query may be relevant to another one.
        relevant_QP[found.asked_P, np.searchsorted(passage_P, found.relevant_P)] = True
        return cls(count, queries, found.query_Q, passage_P, relevant_QP)

    def due(self, steps: int) -> frozenset[int]:
        """After which of so many steps: evenly spread, the last one among them."""
        return frozenset(-(-steps * number // self.count) for number in range(1, self.count + 1))

    def measure(
        self, encoder: "Encoder", data: "TrainingData", accelerator: Accelerator
    ) -> tuple[dict[str, float], Spending, float]:
        """Entropy and MRR@10; what they cost; seconds.

        All ranks do the same work, as sharded layers need all of them. The model is left as it
        was, and so are random numbers.
        """
        begun, supervision, queries = time.perf_counter(), data.supervision, len(self.query_Q)
        query_length, passage_length = data.lengths
        texts = [self.queries.text(int(row), query_length) for row in self.query_Q]
        texts += [data.passages.text(int(row), passage_length) for row in self.passage_P]
        meter = meter_of(encoder, data)
        with undisturbed(encoder, accelerator):
            embedding = Embedding(
                encoder, texts, data.micro_batch_tokens, accelerator, cached=False
            )
            query_QV = encoder.finished(embedding.vectors_ND[:queries], QUERIES)
            passage_PV = encoder.finished(embedding.vectors_ND[queries:], PASSAGES)
            score_QP = encoder.all_scores_BC(query_QV, passage_PV).float() / supervision.temperature
            relevant_QP = torch.from_numpy(self.relevant_QP).to(score_QP.device)
            found: dict[str, Any] = {
                "entropy": entropy(score_QP, relevant_QP),
                f"MRR@{DEPTH}": reciprocal_rank(score_QP, relevant_QP),
            }
            numbers = {name: float(value) for name, value in found.items()}
        return numbers, embedding.spending(meter), time.perf_counter() - begun


def meter_of(encoder: "Encoder", data: "TrainingData") -> Meter:
    """What a text of training costs to encode."""
    shape = replace(
        DecoderShape.of(encoder.backbone.language_model.config),
        projection=encoder.shape[-1] if encoder.per_token else 0,
    )
    return Meter.of_encoding(shape, max(data.lengths), sparse=data.supervision.sparse)


@contextmanager
def undisturbed(encoder: "Encoder", accelerator: Accelerator) -> Iterator[None]:
    """Evaluation mode, without gradients, on random numbers that are put back, not compiled."""
    device = accelerator.device
    devices, training = [device] if device.type == "cuda" else [], encoder.backbone.training
    encoder.backbone.eval()
    try:
        # Compiled layers would be compiled once more, for these few texts.
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices),
            torch.compiler.set_stance("force_eager"),
        ):
            yield
    finally:
        encoder.backbone.train(training)


def entropy(score_QP: Tensor, relevant_QP: Tensor) -> Tensor:
    """Of a relevant passage among what is not: -log softmax in nats, the mean over queries.

    Source: Fang et al., Scaling Laws for Dense Retrieval, SIGIR 2024.
    """
    other_Q = score_QP.masked_fill(relevant_QP, -torch.inf).logsumexp(dim=1)
    loss_QP = torch.logaddexp(score_QP, other_Q[:, None]) - score_QP
    return _mean_over_queries(loss_QP, relevant_QP)


def _mean_over_queries(value_QP: Tensor, relevant_QP: Tensor) -> Tensor:
    total_Q = value_QP.masked_fill(~relevant_QP, 0.0).sum(dim=1)
    return (total_Q / relevant_QP.sum(dim=1)).mean()


def reciprocal_rank(score_QP: Tensor, relevant_QP: Tensor) -> Tensor:
    """MRR within the pool, 0 from rank 11 on; of equal scores the relevant passage comes last."""
    best_Q = score_QP.masked_fill(~relevant_QP, -torch.inf).amax(dim=1)
    rank_Q = 1 + ((score_QP >= best_Q[:, None]) & ~relevant_QP).sum(dim=1)
    return torch.where(rank_Q <= DEPTH, 1.0 / rank_Q, 0.0).mean()
