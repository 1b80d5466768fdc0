"""Encoding a whole collection.

Shapes: N texts, D dimensions.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from scipy import sparse

from lion_sweep import interruption
from lion_sweep.data import arrays
from lion_sweep.data.batches import micro_batches, pad
from lion_sweep.data.tokens import Tokens
from lion_sweep.meter import Meter, Spending
from lion_sweep.training.embedding import Encoder, RowEncoder
from lion_sweep.training.parallel import over_ranks

Vectors = Any  # NDArray[np.float32] or scipy.sparse.csr_matrix


@torch.no_grad()
def encode(
    encoder: Encoder,
    tokens: Tokens,
    length: int,
    batch_tokens: int,
    *,
    is_sparse: bool,
    kept_terms: int | None = None,
    meter: Meter,
    accelerator: Accelerator,
    on_batch: Callable[[int, int], None],
) -> tuple[Vectors, Spending]:
    """Vectors of all texts in their order, [N, D], and what they cost; ranks share the work.

    They are an array, or CSR without its zeros and, if given, of each the `kept_terms` largest
    weights.
    """
    encoder.backbone.eval()
    lengths_N = tokens.lengths(length)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    rows, parts, spent, done = [], [], Spending(), 0
    for number, batch in enumerate(micro_batches(lengths_N, batch_tokens)):
        done += len(batch)
        if number % ranks != rank:
            continue
        ids, mask = pad([tokens.text(row, length) for row in batch], accelerator.device)
        with accelerator.autocast():
            if is_sparse:
                assert isinstance(encoder, RowEncoder)
                parts.append(encoder.rows(ids, mask, kept_terms))
            else:
                parts.append(encoder(ids, mask).cpu().numpy())
        rows.append(batch)
        spent += meter.micro_batch(lengths_N[batch], ids.shape[1])
        on_batch(done, len(tokens))
        # Ranks take different numbers of batches, so they cannot agree on one to stop after.
        if ranks == 1 and interruption.requested():
            raise interruption.stop()
    if ranks > 1:
        rows, parts = gather_object(rows), gather_object(parts)
        spent = over_ranks(spent, accelerator)
    order = np.argsort(np.concatenate(rows), kind="stable")
    if is_sparse:
        return sparse.vstack(parts, format="csr")[order], spent
    return np.concatenate(parts)[order], spent


def save(path: Path, vectors: Vectors) -> None:
    """Write to `<path>.npz` (sparse) or `<path>.npy` (dense)."""
    if sparse.issparse(vectors):
        sparse.save_npz(path.with_suffix(".npz"), vectors)
    else:
        arrays.save(path.with_suffix(".npy"), vectors)


def load(path: Path) -> Vectors:
    """Read what `save` wrote."""
    if path.with_suffix(".npz").is_file():
        return sparse.load_npz(path.with_suffix(".npz")).tocsr()
    return np.load(path.with_suffix(".npy"))
