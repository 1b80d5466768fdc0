"""A sentence encoder's vectors of some texts, as a teacher needs them.

Shapes: B texts of a micro-batch, L tokens, R rows of texts, D dimensions.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.batches import micro_batches, pad
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.tokens import Tokens
from lion_sweep.data.whole import whole
from lion_sweep.machine import interruption
from lion_sweep.search.parts import Parts, Stored
from lion_sweep.stages.base import Paid
from lion_sweep.stages.texts import Cut
from lion_sweep.stages.workshop import Workshop

VECTORS = "vectors"
BATCH_TOKENS = 4096  # padded tokens that the encoder reads at once


@dataclass(frozen=True)
class Rows:
    """Some rows of texts, ascending, [R]."""

    of: NDArray[np.int64]

    @cached_property
    def identity(self) -> str:
        return hashlib.sha256(self.of.astype(np.int64).tobytes()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Embed(Paid):
    """Unit mean-pooled vectors, as sentence-transformers has them; what is done is kept."""

    kind = "embed"

    weights: Pretrained
    texts: Cut
    rows: Rows

    @property
    def meter(self) -> Meter:
        return Meter.of_teacher(self.weights.config(), self.texts.length)

    def planned(self, shop: Workshop) -> Spending:
        return self.meter.texts(self.texts.lengths(shop)[self.rows.of], BATCH_TOKENS)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        parts, tokens = Parts(folder / VECTORS, len(self.rows.of)), self.texts.read(shop)
        embed(self.weights, tokens, self.rows.of, self.meter, parts, shop.progress.step)
        return {"spent": Stored(folder / VECTORS, len(self.rows.of)).spent.as_dict()}

    def read(self, shop: Workshop) -> Stored:
        return Stored(shop.folder(self) / VECTORS)


@torch.no_grad()
def embed(
    encoder: Pretrained,
    tokens: Tokens,
    rows_R: NDArray[np.int64],
    meter: Meter,
    parts: Parts,
    on_text: Callable[[int, int], None],
) -> None:
    """Add the vectors of some texts, [R, D], and what they cost, where they are not there yet."""
    from transformers import AutoModel  # a second, which plans need not wait

    encoder.config()  # raises what there is to say of it
    model = whole(AutoModel, encoder.source, revision=encoder.revision)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    length_R, seen = np.diff(tokens.start_N)[rows_R], 0
    for places in micro_batches(length_R, BATCH_TOKENS):
        seen += len(places)
        if parts.done_N[places].all():
            continue
        texts = [tokens.text(rows_R[place], length_R[place]) for place in places]
        ids_BL, mask_BL = pad(texts, device)
        state_BLD = model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        mask_BL1 = mask_BL[:, :, None]
        mean_BD = (state_BLD * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1)
        spent = meter.micro_batch(length_R[places], ids_BL.shape[1])
        parts.add(places, F.normalize(mean_BD, dim=-1).cpu().numpy(), spent)
        on_text(seen, len(rows_R))
        if (stopping := interruption.requested()) or parts.full:
            parts.keep()
        if stopping:
            raise interruption.stop()
    parts.keep()
