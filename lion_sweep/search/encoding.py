"""Encoding a whole collection.

Shapes: N texts, D dimensions.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy import sparse

from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data import arrays
from lion_sweep.data.batches import micro_batches, pad
from lion_sweep.data.tokens import Tokens
from lion_sweep.files import written
from lion_sweep.machine import interruption
from lion_sweep.models.encoders import Encoder

KEEP_SECONDS = 30
Vectors = Any  # NDArray[np.float32], first the texts, or scipy.sparse.csr_matrix


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
) -> None:
    """Vectors of the texts and what they cost, into `folder`, for `whole`; ranks share the work.

    They are arrays, or CSR without its zeros. What is encoded is kept every half minute, so that a
    killed run goes on after it, on any number of ranks; `on_kept` hears how many texts. Of several
    shards, one is every so many-th micro-batch: batches are the same ones however many shards there
    are, and so are the vectors, and all shards cost about the same. Of other shards' texts nothing
    is encoded.
    """
    encoder.backbone.eval()
    length, meter = setting.length, setting.meter
    lengths_N, parts = tokens.lengths(length), _Parts(folder, len(tokens))
    batches = list(micro_batches(lengths_N, setting.batch_tokens))[setting.shard :: setting.shards]
    texts = sum(map(len, batches))
    rank, ranks, seen = accelerator.process_index, accelerator.num_processes, 0
    for number, batch in enumerate(batches):
        seen += len(batch)
        if number % ranks != rank or parts.done_N[batch].all():
            continue
        ids, mask = pad([tokens.text(row, length) for row in batch], accelerator.device)
        with accelerator.autocast():
            vectors = encoder.rows(ids, mask, setting.kept_terms)
        parts.added.append((batch, vectors, meter.micro_batch(lengths_N[batch], ids.shape[1])))
        on_batch(seen, texts)
        # Ranks take different numbers of batches, so they cannot agree on one to stop after.
        stopping = ranks == 1 and interruption.requested()
        if stopping or time.monotonic() - parts.begun >= KEEP_SECONDS:
            parts.keep()
            on_kept(seen)
        if stopping:
            raise interruption.stop()
    parts.keep()
    accelerator.wait_for_everyone()


def whole(folders: Sequence[Path], texts: int) -> tuple[Vectors, Spending]:
    """The vectors of N texts in their order, [N, D], and what they cost, from all shards' folders.

    Raises `ValueError` where texts are missing.
    """
    spent, rows, csr = Spending(), [], []
    dense_ND: NDArray[np.float32] | None = None
    for file in sorted(file for folder in folders for file in folder.glob("*.npz")):
        with np.load(file) as part:
            rows.append(part["rows"])
            spent += Spending(*part["spent"].tolist())
            if "terms" in part:
                entries = part["data"], part["indices"], part["indptr"]
                csr.append(sparse.csr_matrix(entries, (len(rows[-1]), int(part["terms"]))))
                continue
            vectors = part["vectors"]
        if dense_ND is None:  # filled part by part: memory may not hold the whole twice
            dense_ND = np.empty((texts, *vectors.shape[1:]), vectors.dtype)
        dense_ND[rows[-1]] = vectors
    order = np.argsort(np.concatenate(rows), kind="stable")
    if len(order) != texts:
        raise ValueError(f"{len(order)} of {texts} texts are encoded in {len(folders)} folders.")
    return (dense_ND if dense_ND is not None else sparse.vstack(csr, format="csr")[order]), spent


class _Parts:
    """Vectors of some texts each, in files that appear whole."""

    def __init__(self, folder: Path, texts: int) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.done_N = folder, np.zeros(texts, dtype=bool)
        for file in folder.glob("*.npz"):
            with np.load(file) as part:
                self.done_N[part["rows"]] = True
        self.added: list[tuple[NDArray[np.int64], Vectors, Spending]] = []
        self.begun = time.monotonic()

    def keep(self) -> None:
        """Write what was added since."""
        self.begun = time.monotonic()
        if not self.added:
            return
        batches, vectors, spent = zip(*self.added, strict=True)
        rows, total = np.concatenate(batches), sum(spent, Spending())
        parts = {"rows": rows, "spent": np.array(astuple(total), dtype=np.int64)}
        if sparse.issparse(vectors[0]):
            stacked = sparse.vstack(vectors, format="csr")
            parts |= {name: getattr(stacked, name) for name in ("data", "indices", "indptr")}
            parts["terms"] = np.array(stacked.shape[1])
        else:
            parts["vectors"] = np.concatenate(vectors)
        # No two parts begin with the same text.
        with written(self.folder / f"{rows[0]}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, **parts)  # type: ignore[arg-type]
        self.added = []


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
