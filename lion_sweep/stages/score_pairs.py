"""A cross-encoder's scores of some pairs of a query and a passage, as a teacher needs them.

Shapes: C pairs, B pairs of a micro-batch, L tokens of a pair, K labels.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.batches import pad
from lion_sweep.data.pairs import Joint
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.whole import whole
from lion_sweep.errors import UserError
from lion_sweep.search.parts import Parts, Stored
from lion_sweep.stages import embed
from lion_sweep.stages.base import Paid
from lion_sweep.stages.embed import Rows
from lion_sweep.stages.texts import Cut, tokenizer_of
from lion_sweep.stages.workshop import Workshop

SCORES = "scores"


@dataclass(frozen=True, eq=False)
class ScorePairs(Paid):
    """The logit of each pair, [C]; of two labels that of the second less that of the first.

    What is done is kept. `queries` and `passages` are cut at the tokens of a whole pair.
    """

    kind = "pairs"

    weights: Pretrained
    queries: Cut
    passages: Cut
    pairs: Rows

    @cached_property
    def meter(self) -> Meter:
        return Meter.of_teacher(self.weights.config(), self.queries.length, classifies=True)

    def planned(self, shop: Workshop) -> Spending:
        return self.meter.texts(self._lengths(shop, self._joint(shop)), embed.BATCH_TOKENS)

    def _joint(self, shop: Workshop) -> Joint:
        return Joint.of(tokenizer_of(self.queries.cache.tokenizer, shop))

    def _lengths(self, shop: Workshop, joint: Joint) -> NDArray[np.int64]:
        """Tokens of the pairs, [C]. Raises `UserError` for a query that leaves no passage room."""
        longest, pair_C2 = self.queries.length, self.pairs.of
        query_C, passage_C = (
            cut.lengths(shop)[row_C]
            for cut, row_C in zip((self.queries, self.passages), pair_C2.T, strict=True)
        )
        full = np.flatnonzero(joint.asked(query_C) >= longest)
        if full.size:
            ids = self.queries.cache.texts.read(shop).ids
            named = list(dict.fromkeys(ids[row] for row in pair_C2[full, 0].tolist()))
            raise UserError(
                f"The teacher's {self.weights.source} reads {longest} tokens of a query and a "
                f"passage, and {len(named)} queries alone are as long, such as {named[0]!r}: raise "
                "the length of the scorer in teacher.scorers, or take such queries out."
            )
        return joint.lengths(query_C, passage_C, longest)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        joint, pair_C2 = self._joint(shop), self.pairs.of
        length_C = self._lengths(shop, joint)
        queries, passages = self.queries.read(shop), self.passages.read(shop)
        limits = self.queries.length, self.passages.length
        model, device = load(self.weights), embed.best_device()
        model.to(device).eval()

        def read(places_B: NDArray[np.int64]) -> tuple[NDArray[np.float32], int]:
            joined = [
                joint.join(queries.text(q, limits[0]), passages.text(p, limits[1]), length)
                for (q, p), length in zip(
                    pair_C2[places_B].tolist(), length_C[places_B].tolist(), strict=True
                )
            ]
            ids_BL, mask_BL = pad([ids for ids, _ in joined], device)
            told = {"token_type_ids": pad([types for _, types in joined], device)[0]}
            logit_BK = model(
                input_ids=ids_BL, attention_mask=mask_BL, **(told if joint.typed else {})
            ).logits
            score_B = logit_BK[:, -1] - (logit_BK[:, 0] if logit_BK.shape[1] == 2 else 0)
            return score_B.float().cpu().numpy(), ids_BL.shape[1]

        parts = Parts(folder / SCORES, len(pair_C2))
        embed.in_micro_batches(length_C, read, self.meter, parts, shop.progress.step)
        return {"spent": Stored(folder / SCORES, len(pair_C2)).spent.as_dict()}

    def read(self, shop: Workshop) -> NDArray[np.float32]:
        """[C], in the order of `pairs`."""
        found_C: NDArray[np.float32] = Stored(shop.folder(self) / SCORES).all()
        return found_C


def load(weights: Pretrained) -> Any:
    """A sequence classifier, whole. Raises `UserError` where it cannot be read so."""
    from transformers import AutoModelForSequenceClassification  # seconds

    weights.config()  # raises what there is to say of it
    precision = {"revision": weights.revision, "dtype": torch.float32}
    return whole(AutoModelForSequenceClassification, weights.source, **precision)
