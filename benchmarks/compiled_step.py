"""Decoder layers compiled by torch.compile, against the same layers as they are.

`python -m benchmarks.compiled_step`: forward and backward passes of a training step, on the CPU of
a small decoder of which every weight trains, in fp32. `--size 1b` (3b, 8b) is what a GPU trains:
LoRA with dropout in bf16, gradients cached. `--encode` encodes the texts instead. Texts have many
lengths, so micro-batches differ in shape; ours compiles once for all. `--multiple 32` adds a side
that compiles for every shape, and has few of them: lengths are padded to that multiple, rows to a
power of two or to as many as a micro-batch holds.

What compiling took is among the facts, and how many passes its seconds come to; nothing is reused
from earlier runs. Sides agree in loss and gradients (dropout included) or in vectors, to a share of
their norm: 1e-4 in fp32, a tenth in bf16, where rounding alone differs by some per cent.

Shapes: N texts, B of them in a micro-batch, L tokens (padded), D dimensions.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor

from benchmarks import interleaved
from benchmarks.machine import Device
from benchmarks.study_compute import SHAPES
from benchmarks.training_memory import MICRO_BATCH_TOKENS, Setting, build
from benchmarks.workload import TIED
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.data.batches import micro_batches, pad
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.representations import Representations
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.compiled import EAGER_RANDOM, Compilation, compiled
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.training.embedding import Embedding

SMALL = DecoderShape(256, 1024, 4, 8, 4, 32, 4096)
GROUP, TEMPERATURE = 17, 0.05
OURS, PLAIN = "compiled", "not compiled"
Side = Callable[[], list[Tensor]]


class FewShapes(DenseEncoder):
    """Pads what it encodes, so that shapes repeat."""

    multiple = tokens = 0

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, D], in fp32."""
        rows, length = ids_BL.shape
        wide = -(-length // self.multiple) * self.multiple
        most = max(rows, self.tokens // wide)
        tall = min(most, 1 << (rows - 1).bit_length())
        missing = (0, wide - length, 0, tall - rows)
        ids_BL, mask_BL = F.pad(ids_BL, missing), F.pad(mask_BL, missing)
        mask_BL[rows:, 0] = 1  # a text without tokens would have no attention to normalise
        return super().__call__(ids_BL, mask_BL)[:rows]


def training(encoder: DenseEncoder, setting: Setting, texts: list[Any], device: Device) -> Side:
    """A step up to its gradients: loss, gradients."""

    def step() -> list[Tensor]:
        torch.manual_seed(0)  # of dropout
        encoder.backbone.zero_grad()
        tokens, cached = setting.micro_batch_tokens, setting.cached
        embedding = Embedding(encoder, texts, tokens, device, cached=cached)  # type: ignore[arg-type]
        vectors_ND, queries = embedding.vectors_ND, setting.queries
        query_BD, passage_ND = vectors_ND[:queries], vectors_ND[queries:]
        passage_BGD = passage_ND.unflatten(0, (queries, setting.group))
        step = Representations(query_BD, passage_BGD, query_BD, passage_ND, 0, TEMPERATURE)
        loss = Contrastive(1.0)(step)
        loss.backward()
        embedding.backward()
        gradients = [p.grad for p in encoder.backbone.trainable().values() if p.grad is not None]
        return [loss.detach(), *gradients]

    return step


def encoding(encoder: DenseEncoder, setting: Setting, texts: list[Any], device: Device) -> Side:
    """Vectors of all texts."""

    @torch.no_grad()
    def encode() -> list[Tensor]:
        parts = []
        for rows in micro_batches(setting.lengths_N, setting.micro_batch_tokens):
            ids, mask = pad([texts[row] for row in rows], device.device)
            with device.autocast():
                parts.append(encoder(ids, mask))
        return parts

    return encode


def agree(side: str, found: list[Tensor], expected: list[Tensor], most: float) -> None:
    """End the benchmark where results are further apart than that share of their norm."""
    for one, other in zip(found, expected, strict=True):
        apart = float((one - other).norm() / other.norm())
        if not apart <= most:
            raise SystemExit(f"{side} is {apart:.1e} apart from {PLAIN}: nothing was timed.")


def prepared(
    sides: dict[str, Side], taken: Compilation, tolerance: float
) -> dict[str, dict[str, float]]:
    """Run every side once, compare it with the plain one; what each of them compiled."""
    spent, expected = {}, [tensor.clone() for tensor in sides[PLAIN]()]
    for name in sides.keys() - {PLAIN}:
        graphs, seconds, start = taken.graphs, taken.seconds, time.perf_counter()
        agree(name, sides[name](), expected, tolerance)
        spent[name] = {
            "graphs": taken.graphs - graphs,
            "compile seconds": round(taken.seconds - seconds, 1),
            "first pass, seconds": round(time.perf_counter() - start, 1),
        }
    return spent


def timed(
    setting: Setting,
    where: Device,
    rounds: int,
    *,
    encode: bool = False,
    multiple: int | None = None,
) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """(seconds of every side, ours first; what each side that compiles took for it)."""
    random = np.random.default_rng(0)
    texts = [
        random.integers(3, setting.shape.vocabulary, length).astype(np.int32)
        for length in setting.lengths_N
    ]

    def backbone() -> Backbone:
        torch.manual_seed(0)
        made = build(setting, where.device.type)
        for name, parameter in made.trainable().items():
            if "lora_B" in name:  # adapters start as the identity, without a gradient of the other
                torch.nn.init.normal_(parameter, std=0.02)
        return made.train(not encode)

    encoders = {OURS: DenseEncoder(backbone(), "mean"), PLAIN: DenseEncoder(backbone(), "mean")}
    if multiple:
        few = FewShapes(backbone(), "mean")
        few.multiple, few.tokens = multiple, setting.micro_batch_tokens
        encoders[f"compiled, lengths in multiples of {multiple}"] = few
        torch._dynamo.config.recompile_limit = 64  # past it layers run uncompiled
        for layer in few.backbone.language_model.model.layers:
            layer.compile(dynamic=False, options=EAGER_RANDOM)
    kind = encoding if encode else training
    sides = {name: kind(encoder, setting, texts, where) for name, encoder in encoders.items()}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        with compiled(encoders[OURS].backbone) as taken:
            spent: dict[str, dict[str, Any]] = prepared(sides, taken, tolerance(setting))
            measured = interleaved.seconds(sides, rounds, where.wait)
    for side, facts in spent.items():
        saved = statistics.median(
            plain - ours for plain, ours in zip(measured[PLAIN], measured[side], strict=True)
        )
        facts["passes that repay it"] = (
            round(facts["compile seconds"] / saved) if saved > 0 else "never"
        )
    return measured, spent


def tolerance(setting: Setting) -> float:
    """Largest difference between the sides, as a share of the norm."""
    return 0.1 if setting.bf16 else 1e-4


def main() -> None:
    """Check that the sides agree, then time them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["small", *SHAPES], default="small")
    parser.add_argument("--queries", type=int, default=2, help=f"with {GROUP} passages each")
    parser.add_argument("--tokens", type=int, help="padded ones of a micro-batch")
    parser.add_argument("--encode", action="store_true", help="instead of training")
    parser.add_argument("--multiple", type=int, help="pad lengths to it in one more side")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    small, cuda = options.size == "small", torch.cuda.is_available()
    if not (small or cuda):
        raise SystemExit(f"--size {options.size} needs CUDA, and torch finds none here.")
    settings = {"lora": None} if small else {}
    setting = Setting(
        SMALL if small else SHAPES[options.size],
        options.queries,
        GROUP,
        tied=False if small else TIED[options.size],
        sparse=False,
        cached=not small,
        bf16=cuda,
        micro_batch_tokens=options.tokens or (1024 if small else MICRO_BATCH_TOKENS),
        **settings,
    )
    where = Device(torch.device("cuda" if cuda else "cpu"), setting.bf16)
    measured, spent = timed(
        setting, where, options.rounds, encode=options.encode, multiple=options.multiple
    )
    interleaved.report(
        measured,
        checked=("vectors" if options.encode else "loss and gradients")
        + f" to {tolerance(setting)}",
        packages=["torch", "transformers", "peft"],
        facts={
            **vars(options),
            "tokens": setting.micro_batch_tokens,
            "micro-batches (rows, length)": setting.batches,
            "threads": torch.get_num_threads(),
            **spent,
        },
        device=where.name,
        variant="" if small else options.size,
    )


if __name__ == "__main__":
    main()
