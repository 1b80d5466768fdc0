"""Whether what is trained still tells texts apart: measured on a few texts of the training itself.

Alarms (alarms.py) judge these numbers; a line of `points.jsonl` has them beside its own.

Shapes: Q queries, P passages, F few of them, N either; L tokens (padded), D hidden dimensions,
V vocabulary entries, X what one text has.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from lion_sweep.cost.meter import Spending
from lion_sweep.data.batches import pad
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.training.embedding import Embedding
from lion_sweep.training.parallel import mean_over_ranks
from lion_sweep.training.points import meter_of, undisturbed

if TYPE_CHECKING:
    from lion_sweep.models.backbone import Backbone
    from lion_sweep.models.encoders import Encoder
    from lion_sweep.training.loop import TrainingData

TEXTS = 32  # queries, and their passages
FEW = 8  # passages whose tokens are looked at
SHORTEST = 4  # tokens of these: in a shorter text the first one has a good part by chance
ALWAYS = 0.95  # share of the passages that an always-on term is in
SEED = 0  # of the choice, the same for every cell

Text = NDArray[np.int32]


@dataclass(frozen=True)
class Health:
    """The texts that are looked at, as tokens."""

    queries: list[Text]
    passages: list[Text]

    @classmethod
    def of(cls, data: "TrainingData") -> "Health":
        """Some training queries and what is relevant to them, no text twice."""
        groups, (query_length, passage_length) = data.sampler.groups, data.lengths
        chosen = np.random.default_rng(SEED).permutation(len(groups))[:TEXTS]
        query_Q, passage_P = np.unique(groups.query_P[chosen]), np.unique(groups.positive_P[chosen])
        return cls(
            [data.queries.text(int(row), query_length) for row in query_Q],
            [data.passages.text(int(row), passage_length) for row in passage_P],
        )

    def measure(
        self, encoder: "Encoder", data: "TrainingData", accelerator: Accelerator
    ) -> tuple[dict[str, float], Spending, float]:
        """Numbers by name, see docs/howto/alarms.md; what they cost; seconds.

        All ranks do the same work, as sharded layers need all of them, and hear the same. The
        model is left as it was, and so are random numbers.
        """
        begun, sparse = time.perf_counter(), data.supervision.sparse
        texts = [*self.queries, *self.passages]
        with undisturbed(encoder, accelerator):
            embedding = Embedding(
                encoder, texts, data.micro_batch_tokens, accelerator, cached=False
            )
            query_QX, passage_PX = embedding.vectors_ND.tensor_split([len(self.queries)])
            query_QX = encoder.finished(query_QX, QUERIES)
            passage_PX = encoder.finished(passage_PX, PASSAGES)
            score_QP = encoder.all_scores_BC(query_QX, passage_PX) / data.supervision.temperature
            found: dict[str, Any] = {
                "not_finite": 1 - embedding.vectors_ND.isfinite().double().mean()
            }
            if len(self.passages) > 1:
                found["spread"] = score_QP.double().std(dim=1, correction=0).mean()
            for side, vectors_NX in ((QUERIES, query_QX), (PASSAGES, passage_PX)):
                # Of a text with a vector per token, their sum: those of zeros add nothing.
                whole_NX = vectors_NX.sum(dim=1) if encoder.per_token else vectors_NX
                values = {"cosine": cosine(whole_NX)} | (of_terms(vectors_NX) if sparse else {})
                found |= {f"{name}_{side}": value for name, value in values.items()}
            of_few, passes = self._of_few(encoder, passage_PX, accelerator)
            numbers = {
                n: mean_over_ranks(float(v), accelerator) for n, v in (found | of_few).items()
            }
        meter = meter_of(encoder, data)
        length_F = np.array([len(self.passages[row]) for row in self.few_F], dtype=np.int64)
        again = meter.texts(np.tile(length_F, passes), data.micro_batch_tokens)
        return numbers, embedding.spending(meter) + again, time.perf_counter() - begun

    @property
    def few_F(self) -> list[int]:
        """Which passages are looked into."""
        return [row for row, text in enumerate(self.passages) if len(text) >= SHORTEST][:FEW]

    def _of_few(
        self, encoder: "Encoder", passage_PX: Tensor, accelerator: Accelerator
    ) -> tuple[dict[str, Tensor], int]:
        """What their tokens tell, and how often they were encoded for that."""
        few, found, passes = [self.passages[row] for row in self.few_F], dict[str, Tensor](), 0
        # A backbone that is to see ahead is told so by its configuration, see its `load`.
        if few and not getattr(encoder.backbone.language_model.config, "is_causal", True):
            with accelerator.autocast():
                found["lookahead"] = lookahead(encoder.backbone, few, accelerator.device)
            passes += 2
        if few and encoder.over_vocabulary:
            with accelerator.autocast():
                winner_FV = encoder.winners(*pad(few, accelerator.device))
            if winner_FV is not None:
                found |= of_winners(winner_FV, passage_PX, self.few_F)
                passes += 1
        return found, passes


def cosine(vectors_NX: Tensor) -> Tensor:
    """Of two texts, the mean over all pairs; 0 with a vector of nothing but zeros."""
    unit_NX = F.normalize(vectors_NX.flatten(1).double(), dim=1)
    count = len(unit_NX)
    pairs = max(1, count * (count - 1))
    return (unit_NX.sum(dim=0).square().sum() - unit_NX.square().sum()) / pairs


def of_terms(vectors_NV: Tensor) -> dict[str, Tensor]:
    """Of sparse vectors: terms of a text, texts without any, terms that are always on."""
    active_NV = vectors_NV != 0
    terms_N = active_NV.sum(dim=1)
    return {
        "L0": terms_N.double().mean(),
        "empty": (terms_N == 0).double().mean(),
        "always_on": _always_V(active_NV).sum(),
    }


def _always_V(active_NV: Tensor) -> Tensor:
    return active_NV.double().mean(dim=0) >= ALWAYS


def of_winners(winner_FV: Tensor, passage_PV: Tensor, few_F: list[int]) -> dict[str, Tensor]:
    """Shares of the terms of some passages: those that the first token brings; of these, always."""
    active_PV = passage_PV != 0
    active_FV = active_PV[few_F]
    first_FV = active_FV & (winner_FV == 0)
    terms = active_FV.sum().clamp(min=1)
    return {
        "first_token": first_FV.sum() / terms,
        "sink": (first_FV & _always_V(active_PV)).sum() / terms,
    }


def lookahead(backbone: "Backbone", texts: list[Text], device: torch.device) -> Tensor:
    """How far states in the first half of a text move with its second half, over their length.

    Of the state that moves most; the mean over texts. 0, or next to it, where attention is causal.
    """
    others = [text.copy() for text in texts]
    half_F = torch.tensor([len(text) // 2 for text in texts], device=device)
    for text in others:
        second = text[len(text) // 2 :]
        second += 1
    ids_NL, mask_NL = pad([*texts, *others], device)
    ids_NL = ids_NL % backbone.vocabulary  # any tokens will do, whatever else an encoder marks
    before_FLD, after_FLD = backbone.hidden_states(ids_NL, mask_NL).double().chunk(2)
    moved_FL = (after_FLD - before_FLD).norm(dim=-1) / before_FLD.norm(dim=-1)
    place_L = torch.arange(moved_FL.shape[1], device=device)
    return moved_FL.masked_fill(place_L >= half_F[:, None], 0.0).amax(dim=1).mean()
