"""A sentence encoder's vectors of some texts, as a teacher needs them.

Shapes: B texts of a micro-batch, L tokens, R rows of texts, N texts, D dimensions.
"""

import hashlib
from collections.abc import Callable, Iterable
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
    """Some rows of texts, [R], or of pairs of them, [R, 2], ascending."""

    of: NDArray[np.int64]

    @cached_property
    def identity(self) -> str:
        return hashlib.sha256(self.of.astype(np.int64).tobytes()).hexdigest()[:16]


def places(parts: Iterable[Rows], rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where some rows of texts lie among those of all parts, one part after the other."""
    row_V = np.concatenate([part.of for part in parts])
    place_N = np.zeros(int(row_V.max()) + 1, np.int64)
    place_N[row_V] = np.arange(len(row_V))
    return place_N[rows]


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
        tokens, rows_R = self.texts.read(shop), self.rows.of
        model, device = load(self.weights), best_device()
        model.to(device).eval()
        length_R = np.diff(tokens.start_N)[rows_R]

        def read(places_B: NDArray[np.int64]) -> tuple[NDArray[np.float32], int]:
            texts = [tokens.text(rows_R[place], length_R[place]) for place in places_B]
            ids_BL, mask_BL = pad(texts, device)
            state_BLD = model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
            mask_BL1 = mask_BL[:, :, None]
            mean_BD = (state_BLD * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1)
            return F.normalize(mean_BD, dim=-1).cpu().numpy(), ids_BL.shape[1]

        parts = Parts(folder / VECTORS, len(rows_R))
        in_micro_batches(length_R, read, self.meter, parts, shop.progress.step)
        return {"spent": Stored(folder / VECTORS, len(rows_R)).spent.as_dict()}

    def read(self, shop: Workshop) -> Stored:
        return Stored(shop.folder(self) / VECTORS)


def load(encoder: Pretrained) -> Any:
    """Its model, whole. Raises `UserError` where it cannot be read so."""
    from transformers import AutoModel  # a second, which plans need not wait

    encoder.config()  # raises what there is to say of it
    return whole(AutoModel, encoder.source, revision=encoder.revision)


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def in_micro_batches(
    length_N: NDArray[np.int64],
    read: Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], int]],
    meter: Meter,
    parts: Parts,
    on_text: Callable[[int, int], None],
) -> None:
    """Add what `read` finds of N texts, and what that costs, where it is not there yet.

    It gets places of texts of about one length, and returns their values, [B, ...], and the length
    that they were padded to. May raise `Interrupted`.
    """
    seen = 0
    for places_B in micro_batches(length_N, BATCH_TOKENS):
        seen += len(places_B)
        if parts.done_N[places_B].all():
            continue
        values, padded = read(places_B)
        parts.add(places_B, values, meter.micro_batch(length_N[places_B], padded))
        on_text(seen, len(length_N))
        if (stopping := interruption.requested()) or parts.full:
            parts.keep()
        if stopping:
            raise interruption.stop()
    parts.keep()
