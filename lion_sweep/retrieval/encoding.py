"""Encoding a whole collection.

Shapes: N texts, D dimensions.
"""

import os
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy import sparse

from lion_sweep import interruption
from lion_sweep.data import arrays
from lion_sweep.data.batches import micro_batches, pad
from lion_sweep.data.tokens import Tokens
from lion_sweep.meter import Meter, Spending
from lion_sweep.training.embedding import Encoder, RowEncoder

KEEP_SECONDS = 30
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
    folder: Path,
    on_batch: Callable[[int, int], None],
    on_kept: Callable[[int], None] = lambda _: None,
) -> tuple[Vectors | None, Spending]:
    """Vectors of all texts in their order, [N, D], and what they cost; ranks share the work.

    They are an array, or CSR without its zeros and, if given, of each the `kept_terms` largest
    weights; None on ranks that do not lead. What is encoded is kept in `folder` every half minute,
    so that a killed run goes on after it, on any number of ranks; `on_kept` hears how many texts.
    """
    encoder.backbone.eval()
    lengths_N, parts = tokens.lengths(length), _Parts(folder, len(tokens))
    rank, ranks, seen = accelerator.process_index, accelerator.num_processes, 0
    for number, batch in enumerate(micro_batches(lengths_N, batch_tokens)):
        seen += len(batch)
        if number % ranks != rank or parts.done_N[batch].all():
            continue
        ids, mask = pad([tokens.text(row, length) for row in batch], accelerator.device)
        with accelerator.autocast():
            if is_sparse:
                assert isinstance(encoder, RowEncoder)
                vectors = encoder.rows(ids, mask, kept_terms)
            else:
                vectors = encoder(ids, mask).cpu().numpy()
        parts.add(batch, vectors, meter.micro_batch(lengths_N[batch], ids.shape[1]))
        on_batch(seen, len(tokens))
        # Ranks take different numbers of batches, so they cannot agree on one to stop after.
        stopping = ranks == 1 and interruption.requested()
        if stopping or parts.seconds >= KEEP_SECONDS:
            parts.keep()
            on_kept(seen)
        if stopping:
            raise interruption.stop()
    parts.keep()
    accelerator.wait_for_everyone()
    return (
        _Parts(folder, len(tokens)).whole() if accelerator.is_main_process else (None, Spending())
    )


class _Parts:
    """Vectors of some texts each, in files that appear whole."""

    def __init__(self, folder: Path, texts: int) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.done_N = folder, np.zeros(texts, dtype=bool)
        self.files = sorted(folder.glob("*.npz"))
        for file in self.files:
            with np.load(file) as part:
                self.done_N[part["rows"]] = True
        self._rows: list[NDArray[np.int64]] = []
        self._vectors: list[Vectors] = []
        self._spent, self._begun = Spending(), time.monotonic()

    def add(self, rows: NDArray[np.int64], vectors: Vectors, spent: Spending) -> None:
        """Remember until they are kept."""
        self._rows.append(rows)
        self._vectors.append(vectors)
        self._spent += spent

    @property
    def seconds(self) -> float:
        """Since something was kept."""
        return time.monotonic() - self._begun

    def keep(self) -> None:
        """Write what was added since."""
        self._begun = time.monotonic()
        if not self._rows:
            return
        rows = np.concatenate(self._rows)
        parts = {"rows": rows, "spent": np.array(astuple(self._spent), dtype=np.int64)}
        if sparse.issparse(self._vectors[0]):
            vectors = sparse.vstack(self._vectors, format="csr")
            parts |= {name: getattr(vectors, name) for name in ("data", "indices", "indptr")}
            parts["terms"] = np.array(vectors.shape[1])
        else:
            parts["vectors"] = np.concatenate(self._vectors)
        temporary = self.folder / f".{rows[0]}.{os.getpid()}"
        with temporary.open("wb") as file:
            np.savez(file, **parts)  # type: ignore[arg-type]
        temporary.replace(self.folder / f"{rows[0]}.npz")  # no two parts begin with the same text
        self._rows, self._vectors, self._spent = [], [], Spending()

    def whole(self) -> tuple[Vectors, Spending]:
        """All vectors in the order of the texts, and what they cost."""
        spent, rows, found = Spending(), [], []
        for file in self.files:
            with np.load(file) as part:
                spent += Spending(*part["spent"].tolist())
                rows.append(part["rows"])
                found.append(
                    sparse.csr_matrix(
                        (part["data"], part["indices"], part["indptr"]),
                        (len(part["rows"]), int(part["terms"])),
                    )
                    if "terms" in part
                    else part["vectors"]
                )
        order = np.argsort(np.concatenate(rows), kind="stable")
        if sparse.issparse(found[0]):
            return sparse.vstack(found, format="csr")[order], spent
        return np.concatenate(found)[order], spent


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
