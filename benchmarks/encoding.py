"""Encoding passages: sorted by length, adapters merged, sparse rows; against the study's way.

`python -m benchmarks.encoding` runs a small random decoder on the CPU in fp32. With `--size 1b`,
`3b` or `8b` the same code runs Llama-3's shapes on CUDA in bf16, weights made there; only those
figures say anything of a GPU.

Ours is `search.encoding` as the pipeline calls it, the files that it keeps included. The
study takes passages as they come, 64 at a time, padded to the longest of them; adapters stay beside
the weights; of a sparse batch all logits and the rows [B, V] are made, then their active entries
taken. Both sides have a threshold that leaves 1 % of the vocabulary active, without which random
weights would leave all of it.

Shapes: N texts, B texts of a batch, D dimensions.
"""

import argparse
import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy import sparse

from benchmarks import interleaved, machine, released, workload
from lion_sweep.cost.ledger import sequence_flops
from lion_sweep.cost.meter import Meter
from lion_sweep.data.batches import micro_batches, pad
from lion_sweep.data.tokens import Tokens
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.encoders import Encoder
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.search.encoding import Setting, Vectors, encode
from lion_sweep.search.parts import Stored

BATCH, BATCH_TOKENS = 64, 16384  # the study's; evaluation.batch_tokens
ACTIVE = 0.01
FP32, BF16 = 1e-5, 0.05  # largest difference, as a share of the norm
OURS, RELEASED = "sorted, merged", "as released"
Texts = list[NDArray[np.int32]]


def ours(encoder: Encoder, tokens: Tokens, meter: Meter, accelerator: Accelerator) -> Vectors:
    """[N, D], in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        encode(
            encoder,
            tokens,
            Setting(workload.ENCODED_MOST, BATCH_TOKENS, None, meter),
            accelerator,
            Path(folder),
            lambda *_: None,
        )
        return Stored(Path(folder), len(tokens)).all()


@torch.no_grad()
def as_released(
    encoder: released.Encoder, texts: Texts, device: machine.Device, *, is_sparse: bool
) -> Vectors:
    """[N, D], of batches in the order of the texts."""
    parts = []
    for first in range(0, len(texts), BATCH):
        with device.autocast():
            vectors_BD = encoder(*pad(texts[first : first + BATCH], device.device))
        if is_sparse:
            text, entry = vectors_BD.nonzero(as_tuple=True)
            found = vectors_BD[text, entry], text, entry
            weights, rows, columns = (values.cpu().numpy() for values in found)
            parts.append(sparse.csr_matrix((weights, (rows, columns)), tuple(vectors_BD.shape)))
        else:
            parts.append(vectors_BD.cpu().numpy())
    return sparse.vstack(parts, format="csr") if is_sparse else np.concatenate(parts)


def check(found: Vectors, expected: Vectors, tolerance: float) -> None:
    """The sides' vectors are the same but for rounding."""
    difference, whole = (
        np.linalg.norm(vectors.data if sparse.issparse(vectors) else vectors)
        for vectors in (found - expected, expected)
    )
    if not difference <= tolerance * whole:
        raise SystemExit(f"The vectors are {difference / whole:.1e} apart, nothing was timed.")


def padded(lengths_N: NDArray[np.int64]) -> tuple[int, int]:
    """Tokens that ours and the study's way encode."""
    starts = range(0, len(lengths_N), BATCH)
    theirs = [lengths_N[first : first + BATCH] for first in starts]
    batches = [lengths_N[rows] for rows in micro_batches(lengths_N, BATCH_TOKENS)]
    of_ours, of_theirs = (sum(len(b) * int(b.max()) for b in side) for side in (batches, theirs))
    return of_ours, of_theirs


def models(size: str, device: machine.Device) -> tuple[Backbone, Backbone]:
    """One decoder twice: adapters merged, and beside the weights."""
    torch.manual_seed(0)
    backbone = workload.decoder(
        workload.SIZES[size],
        tied=workload.TIED[size],
        lora=workload.ADAPTERS,
        dtype=torch.bfloat16 if device.bf16 else torch.float32,
        device=device.device,
    ).eval()
    return copy.deepcopy(backbone).merged(), backbone


@dataclass(frozen=True)
class Timed:
    """Seconds of both sides, ours first, and the useful FLOPs of one run."""

    seconds: dict[str, list[float]]
    flops: int


def timed(
    size: str, texts: Texts, device: machine.Device, paradigms: Sequence[str], rounds: int
) -> Iterator[tuple[str, Timed]]:
    """Each paradigm's times, after a check that both ways give the same vectors."""
    shape = workload.SIZES[size]
    accelerator = Accelerator(cpu=not device.cuda, mixed_precision="bf16" if device.bf16 else "no")
    lengths_N = lengths(texts)
    tokens = Tokens(np.concatenate(texts), np.concatenate([[0], np.cumsum(lengths_N)]))
    merged, unmerged = models(size, device)
    threshold = workload.threshold(unmerged, texts, ACTIVE, device)
    encoders: dict[str, tuple[Encoder, released.Encoder]] = {
        "sparse": (
            SparseEncoder(merged, threshold),
            released.SparseEncoder(unmerged, threshold),
        ),
        "dense": (DenseEncoder(merged, "tokens"), released.DenseEncoder(unmerged)),
    }
    for paradigm in paradigms:
        (encoder, fixed), is_sparse = encoders[paradigm], paradigm == "sparse"
        meter = Meter.of_encoding(shape, workload.ENCODED_MOST, sparse=is_sparse)
        sides = {
            OURS: lambda e=encoder, m=meter: ours(e, tokens, m, accelerator),
            RELEASED: lambda e=fixed, s=is_sparse: as_released(e, texts, device, is_sparse=s),
        }
        check(*(side() for side in sides.values()), BF16 if device.bf16 else FP32)
        seconds = interleaved.seconds(sides, rounds, device.wait)
        flops_N = sequence_flops(shape, lengths_N, sparse=is_sparse, lora=None, backward=False)
        yield paradigm, Timed(seconds, int(flops_N.sum()))


def lengths(texts: Texts) -> NDArray[np.int64]:
    """Tokens of every text."""
    return np.array([len(text) for text in texts])


def main() -> None:
    """Check that both ways give the same vectors, then time them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=workload.SIZES, default=workload.PROXY)
    parser.add_argument("--texts", type=int, help="192 of the small decoder's, 2,048 of others")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    shape = workload.SIZES[options.size]
    device = machine.CPU if options.size in workload.ON_CPU else machine.gpu()
    options.texts = options.texts or (2048 if device.cuda else 192)
    texts = workload.encoded_texts(options.texts, shape.vocabulary)
    lengths_N = lengths(texts)
    of_ours, of_theirs = padded(lengths_N)
    facts = {
        **vars(options),
        "real tokens": int(lengths_N.sum()),
        "padded tokens": f"{of_ours} sorted, {of_theirs} as they come",
        "threads": torch.get_num_threads(),
    }
    measured = {}
    for paradigm, run in timed(options.size, texts, device, ("sparse", "dense"), options.rounds):
        measured[f"{paradigm} encoding"] = run.seconds
        for side, values in run.seconds.items():
            fastest = min(values)
            facts[f"{paradigm}, passages per second, {side}"] = round(options.texts / fastest, 1)
            if device.cuda:
                facts[f"{paradigm}, useful MFU, {side}"] = machine.utilisation(run.flops, fastest)
    interleaved.report(
        measured.pop("sparse encoding"),
        checked=f"vectors to {BF16 if device.bf16 else FP32} of their norm; shown first: sparse",
        packages=["torch", "transformers", "peft", "scipy", "numpy"],
        facts=facts,
        cases=measured,
        device=device.name,
        variant="" if options.size == workload.PROXY else options.size,
    )


if __name__ == "__main__":
    main()
