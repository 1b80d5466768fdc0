"""One optimiser step at full size: ours, against the study's loop.

`python -m benchmarks.training_step --size 8b --paradigm dense`, which needs CUDA: weights of that
shape are made there, in bf16, with LoRA on all projections. `--size proxy` runs the same code on
the CPU in fp32 within seconds; its figures say nothing of a GPU.

Ours sorts all texts of the step by length, cuts micro-batches by tokens, keeps their graphs where
memory.py says that they fit and caches gradients elsewhere. The study's loop, written anew, takes
queries in micro-batches of a fixed number, texts in random order, pads queries to the longest query
and passages to the longest passage, checkpoints every layer, holds fp32 logits of all tokens where
vectors are sparse, and accumulates. A query's negatives are then those of its micro-batch, not of
the step, so the sides are compared on one micro-batch alone: in fp32 on two layers of the same
width, vectors, loss and gradients; and in the precision that is timed on all layers, vectors.

The step is one of the study's four GPUs' share, both sides on the same weights; dropout is off.
Random weights know no scale of scores: the temperature makes their standard deviation 1.

Shapes: N texts, B queries, D dimensions.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmarks import interleaved, machine, released, workload
from benchmarks.machine import Device
from lion_sweep.cost.ledger import DecoderShape, sequence_flops
from lion_sweep.cost.memory import Decoder, training_memory
from lion_sweep.data.batches import micro_batches, pad
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.flops import FlopsRegulariser
from lion_sweep.models import dense, sparse
from lion_sweep.models.encoders import Encoder
from lion_sweep.training.embedding import Embedding

GROUP = 17
MICRO_BATCH_QUERIES = {workload.PROXY: 1, workload.TINY: 1, "1b": 28, "3b": 16, "8b": 8}
QUERIES = {workload.PROXY: 2, workload.TINY: 2, "1b": 28, "3b": 32, "8b": 32}
MICRO_BATCH_TOKENS = 16384
FP32, FP32_GRADIENT, BF16 = 1e-4, 1e-2, 0.05  # largest difference, as a share of the norm


class Step:
    """A decoder, a step's texts, and both ways to take the step."""

    def __init__(
        self,
        shape: DecoderShape,
        device: Device,
        *,
        tied: bool,
        queries: int,
        part: int,
        share: float | None,
    ) -> None:
        """`part`: queries of the study's micro-batch. `share` of active entries; None: dense."""
        self.device, self.queries, self.part = device, queries, part
        self.shape, self.sparse = shape, share is not None
        torch.manual_seed(0)
        self.backbone = workload.decoder(
            shape,
            tied=tied,
            lora=workload.ADAPTERS,
            dtype=torch.bfloat16 if device.bf16 else torch.float32,
            device=device.device,
        ).train()
        self.texts = workload.step_texts(queries, GROUP, shape.vocabulary)
        self.lengths_N = np.array([len(text) for text in self.texts])
        self.ours: Encoder = dense.DenseEncoder(self.backbone, "tokens")
        self.fixed: released.Encoder = released.DenseEncoder(self.backbone)
        if share is not None:
            limit = workload.threshold(self.backbone, self.texts[queries:], share, device)
            self.ours = sparse.SparseEncoder(self.backbone, limit)
            self.fixed = released.SparseEncoder(self.backbone, limit)
        self.parameters = list(self.backbone.trainable().values())
        self.optimiser = torch.optim.AdamW(self.parameters, lr=1e-6)
        self.regulariser = FlopsRegulariser(0.05, 0.04, 0.0)
        self.cached, self.tokens, self.temperature = *self._fitting(tied), 1.0
        scores = workload.represent(self.vectors(), queries, 1.0).candidate_scores_BC()
        self.temperature = float(scores.std())

    def _fitting(self, tied: bool) -> tuple[bool, int]:
        """(whether gradients are cached, tokens of a micro-batch), as the plan decides it."""
        usable = machine.published().usable_bytes if self.device.cuda else None

        def fits(tokens: int, *, cached: bool) -> bool:
            needed = training_memory(
                Decoder(self.shape, workload.ADAPTERS, self.device.bf16),
                [(len(rows), int(self.lengths_N[rows].max())) for rows in self.batches(tokens)],
                tied=tied,
                sparse=self.sparse,
                cached=cached,
            )
            return usable is None or needed.total <= usable

        tokens = MICRO_BATCH_TOKENS
        if fits(tokens, cached=False):
            return False, tokens
        while tokens > self.lengths_N.max() and not fits(tokens, cached=True):
            tokens //= 2
        return True, tokens

    def batches(self, tokens: int) -> list[np.ndarray]:
        """Rows of our micro-batches of so many padded tokens."""
        return list(micro_batches(self.lengths_N, tokens))

    def rows(self, first: int, count: int) -> list[int]:
        """Texts of `count` queries from `first` on: the queries, then their passages."""
        start = self.queries + first * GROUP
        return [*range(first, first + count), *range(start, start + count * GROUP)]

    def loss(self, vectors_ND: Tensor) -> Tensor:
        """InfoNCE, and the FLOPS regulariser where vectors are sparse."""
        queries = len(vectors_ND) // (GROUP + 1)
        step = workload.represent(vectors_ND, queries, self.temperature)
        terms = [Contrastive(1.0)(step)]
        if self.sparse:
            terms += self.regulariser(step, 1.0).values()
        return torch.stack(terms).sum()

    def embed(self, rows: list[int], *, cached: bool) -> Embedding:
        """Our vectors of some texts."""
        texts, encoder = [self.texts[row] for row in rows], self.ours
        return Embedding(encoder, texts, self.tokens, self.device, cached=cached)  # type: ignore[arg-type]

    def vectors(self) -> Tensor:
        """Our vectors of all texts, without graphs."""
        return self.embed(self.rows(0, self.queries), cached=True).vectors_ND.detach()

    @property
    def useful_flops(self) -> int:
        """Of a step: forward and backward, of real tokens alone."""
        flops_N = sequence_flops(
            self.shape, self.lengths_N, sparse=self.sparse, lora=workload.ADAPTERS
        )
        return int(flops_N.sum())

    def released_vectors(self, first: int) -> Tensor:
        """The study's vectors of a micro-batch that begins with query `first`."""
        texts = [self.texts[row] for row in self.rows(first, self.part)]
        with self.device.autocast():
            parts = [
                self.fixed(*pad(part, self.device.device))
                for part in (texts[: self.part], texts[self.part :])
            ]
        return torch.cat(parts)

    @contextmanager
    def checkpointed(self) -> Iterator[None]:
        """Layers forget their activations in here."""
        model = self.backbone.language_model
        model.gradient_checkpointing_enable({"use_reentrant": False})
        yield
        model.gradient_checkpointing_disable()

    def take_ours(self, queries: int) -> Tensor:
        """Add the gradients of the first so many queries as one step; returns the loss."""
        embedding = self.embed(self.rows(0, queries), cached=self.cached)
        loss = self.loss(embedding.vectors_ND)
        loss.backward()
        embedding.backward()
        return loss.detach()

    def take_released(self, queries: int) -> Tensor:
        """The same by the study's micro-batches; returns the mean of their losses."""
        firsts, losses = range(0, queries, self.part), []
        with self.checkpointed():
            for first in firsts:
                loss = self.loss(self.released_vectors(first)) / len(firsts)
                loss.backward()
                losses.append(loss.detach())
        return torch.stack(losses).sum()

    def update(self) -> None:
        """Clip the gradients and step."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def our_step(self) -> None:
        """All of it."""
        self.take_ours(self.queries)
        self.update()

    def released_step(self) -> None:
        """All of it."""
        self.take_released(self.queries)
        self.update()

    @property
    def sides(self) -> dict[str, Callable[[], None]]:
        """What is timed."""
        return {"ours": self.our_step, "released": self.released_step}

    def padded(self) -> tuple[int, int]:
        """Tokens that ours and the study's loop encode in a pass."""
        theirs = []
        for first in range(0, self.queries, self.part):
            lengths_N = self.lengths_N[self.rows(first, self.part)]
            theirs += [lengths_N[: self.part], lengths_N[self.part :]]
        ours = [self.lengths_N[rows] for rows in self.batches(self.tokens)]
        of_ours, of_theirs = (sum(len(b) * int(b.max()) for b in side) for side in (ours, theirs))
        return of_ours, of_theirs

    def check_vectors(self, tolerance: float) -> None:
        """Both sides have the same vectors of all texts."""
        vectors_ND = self.vectors()
        for first in range(0, self.queries, self.part):
            with torch.no_grad():
                expected_ND = self.released_vectors(first)
            found_ND = vectors_ND[self.rows(first, self.part)]
            workload.agree("vectors", found_ND, expected_ND, tolerance)

    def check_gradients(self) -> None:
        """Both sides have the same loss and gradients of one micro-batch."""
        found = []
        for take in (self.take_ours, self.take_released):
            loss = take(self.part)
            found.append([loss, *(p.grad for p in self.parameters if p.grad is not None)])
            self.optimiser.zero_grad()
        for number, (one, other) in enumerate(zip(*found, strict=True)):
            kind = "gradient" if number else "loss"
            workload.agree(kind, one, other, FP32_GRADIENT if number else FP32)


def checked(size: str, device: Device, queries: int, part: int, share: float | None) -> Step:
    """The step to time, after all that is compared."""
    shape = workload.SIZES[size]
    exact = Step(
        replace(shape, layers=2),
        Device(device.device, bf16=False),
        tied=workload.TIED[size],
        queries=2,
        part=2,
        share=share,
    )
    exact.check_vectors(FP32)
    exact.check_gradients()
    del exact
    torch.cuda.empty_cache()  # does nothing without CUDA
    step = Step(shape, device, tied=workload.TIED[size], queries=queries, part=part, share=share)
    step.check_vectors(BF16 if device.bf16 else FP32)
    return step


def main() -> None:
    """Check that the sides agree, then time them and take their peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=workload.SIZES, default="8b")
    parser.add_argument("--paradigm", choices=("dense", "sparse"), default="dense")
    parser.add_argument("--queries", type=int, help="of a step; the study's share by default")
    parser.add_argument("--active", type=float, default=0.01, help="share of the vocabulary")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size, is_sparse = options.size, options.paradigm == "sparse"
    queries, part = options.queries or QUERIES[size], MICRO_BATCH_QUERIES[size]
    if queries % part:
        parser.error(f"--queries {queries} is not a multiple of {part}, the study's micro-batch")
    device = machine.CPU if size in workload.ON_CPU else machine.gpu()
    step = checked(size, device, queries, part, options.active if is_sparse else None)
    measured = interleaved.seconds(step.sides, options.rounds, device.wait)
    real, (of_ours, of_theirs) = int(step.lengths_N.sum()), step.padded()
    facts = {
        **vars(options),
        "queries": queries,
        "passages of a query": GROUP,
        "released micro-batch, queries": part,
        "gradients cached": step.cached,
        "tokens of our micro-batches": step.tokens,
        "real tokens": real,
        "padded tokens": f"{of_ours} ours, {of_theirs} released",
        "useful FLOPs": f"{step.useful_flops:.3e}",
    }
    for side, values in measured.items():
        seconds = float(np.median(values))
        facts[f"real tokens per second, {side}"] = round(real / seconds)
        if device.cuda:
            facts[f"useful MFU, {side}"] = machine.utilisation(step.useful_flops, seconds)
            facts[f"peak, GB, {side}"] = round(machine.peak(step.sides[side])[0] / 1e9, 2)
    interleaved.report(
        measured,
        checked=f"two layers in fp32: vectors and loss to {FP32}, gradients to {FP32_GRADIENT} of "
        f"their norm; all layers: vectors to {BF16 if device.bf16 else FP32}",
        packages=["torch", "transformers", "peft"],
        facts=facts,
        device=device.name,
        variant=f"{size}_{options.paradigm}",
    )


if __name__ == "__main__":
    main()
