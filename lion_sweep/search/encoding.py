"""Encoding a whole collection."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from lion_sweep.cost.meter import Meter
from lion_sweep.data.batches import micro_batches, pad
from lion_sweep.data.tokens import Tokens
from lion_sweep.machine import interruption
from lion_sweep.models.encoders import Encoder
from lion_sweep.search.parts import Parts

Vectors = Any  # NDArray[np.floating], first the texts, scipy.sparse.csr_matrix, or Ragged


@dataclass(frozen=True)
class Setting:
    """What vectors are made, and in which parts."""

    length: int  # tokens kept of a text
    batch_tokens: int  # padded ones of a micro-batch, at most
    kept_terms: int | None  # largest weights of a sparse vector; None: all
    meter: Meter
    shard: int = 0
    shards: int = 1


@torch.no_grad()
def encode(
    encoder: Encoder,
    tokens: Tokens,
    setting: Setting,
    accelerator: Accelerator,
    folder: Path,
    on_batch: Callable[[int, int], None],
    on_kept: Callable[[int], None] = lambda _: None,
    *,
    alone: bool = False,
) -> None:
    """Vectors of the texts and what they cost, as parts in `folder`; ranks share the work, unless
    this one does it `alone`.

    They are arrays, CSR without its zeros, or `Ragged`. What is encoded is kept every half minute,
    so that a killed run goes on after it, on any number of ranks; `on_kept` hears how many texts.
    Of several shards, one is every so many-th micro-batch: batches are the same ones however many
    shards there are, and so are the vectors, and all shards cost about the same. Of other shards'
    texts nothing is encoded.
    """
    encoder.backbone.eval()
    length, meter = setting.length, setting.meter
    lengths_N, parts = tokens.lengths(length), Parts(folder, len(tokens))
    batches = list(micro_batches(lengths_N, setting.batch_tokens))[setting.shard :: setting.shards]
    texts = sum(map(len, batches))
    rank, ranks = (0, 1) if alone else (accelerator.process_index, accelerator.num_processes)
    seen = 0
    for number, batch in enumerate(batches):
        seen += len(batch)
        batch = batch[~parts.done_N[batch]]  # all or none, but for another `batch_tokens`
        if number % ranks != rank or not len(batch):
            continue
        ids, mask = pad([tokens.text(row, length) for row in batch], accelerator.device)
        with accelerator.autocast():
            vectors = encoder.rows(ids, mask, setting.kept_terms)
        parts.add(batch, vectors, meter.micro_batch(lengths_N[batch], ids.shape[1]))
        on_batch(seen, texts)
        # Ranks take different numbers of batches, so they cannot agree on one to stop after.
        stopping = ranks == 1 and interruption.requested()
        if stopping or parts.full:
            parts.keep()
            on_kept(seen)
        if stopping:
            raise interruption.stop()
    parts.keep()
    if not alone:
        accelerator.wait_for_everyone()
