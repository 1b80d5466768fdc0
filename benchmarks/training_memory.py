"""Peak memory of a training step: predicted in closed form, and measured.

With CUDA the step runs and the allocator says what it took, and how fast it was. Without CUDA the
same code runs at full size on fake tensors, whose live storages are summed up (`fake_memory`);
workspaces of kernels and fragmentation are not in such a sum.

Texts have lengths around the means of MS MARCO, so that micro-batches are padded. A prediction that
is off by more than a tenth ends the benchmark, and nothing is written.
"""

import gc
import statistics
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from benchmarks import interleaved
from benchmarks.fake_memory import LiveBytes, fake_cuda, fake_ranks, materialise
from benchmarks.machine import Device
from benchmarks.study_compute import LORA, REAL, SHAPES
from benchmarks.workload import TIED, decoder
from lion_sweep.config import Lora
from lion_sweep.cost.ledger import DecoderShape, executed_flops
from lion_sweep.cost.memory import Decoder, Memory, training_memory
from lion_sweep.data.batches import micro_batches
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.flops import FlopsRegulariser
from lion_sweep.losses.margin_mse import MarginMSE
from lion_sweep.losses.representations import Representations
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.stages.weights import shard
from lion_sweep.training.embedding import Embedding

MICRO_BATCH_TOKENS = 16384
GIB = 1 << 30
TOLERANCE = 0.1  # of a prediction


@dataclass(frozen=True)
class Setting:
    """One step: `queries` queries with `group` passages each."""

    shape: DecoderShape
    queries: int
    group: int
    tied: bool
    sparse: bool
    lora: Lora | None = field(default_factory=lambda: LORA)
    cached: bool = True
    bf16: bool = True
    lengths: tuple[int, int] = REAL
    micro_batch_tokens: int = MICRO_BATCH_TOKENS
    shards: int = 1  # ranks that frozen layers are spread over; on fake tensors alone

    @property
    def lengths_N(self) -> np.ndarray:
        """Tokens of the queries, then of the passages: from half to one and a half of the mean."""
        random = np.random.default_rng(0)
        counts = (self.queries, self.queries * self.group)
        spread = [
            random.integers(mean // 2, mean + mean // 2, count, endpoint=True)
            for mean, count in zip(self.lengths, counts, strict=True)
        ]
        return np.concatenate(spread)

    @property
    def batches(self) -> list[tuple[int, int]]:
        """(rows, padded length) of every micro-batch."""
        lengths_N = self.lengths_N
        batches = micro_batches(lengths_N, self.micro_batch_tokens)
        return [(len(rows), int(lengths_N[rows].max())) for rows in batches]

    @property
    def padded_N(self) -> np.ndarray:
        """Tokens that every text is padded to, longest first."""
        rows, lengths = zip(*self.batches, strict=True)
        return np.repeat(lengths, rows)

    def predicted(self) -> Memory:
        """In closed form."""
        return training_memory(
            Decoder(self.shape, self.lora, self.bf16),
            self.batches,
            tied=self.tied,
            sparse=self.sparse,
            cached=self.cached,
            shards=self.shards,
        )


def build(setting: Setting, device: str) -> Backbone:
    """A decoder with arbitrary weights, as the pipeline would load it."""
    dtype = torch.bfloat16 if setting.lora and setting.bf16 else torch.float32
    made = decoder(setting.shape, tied=setting.tied, lora=setting.lora, dtype=dtype, device=device)
    return made.train()


class Trainer:
    """The training loop's step without its reading, logging and checkpoints."""

    def __init__(self, setting: Setting, backbone: Backbone, device: str) -> None:
        self.setting, self.device = setting, Device(torch.device(device), setting.bf16)
        self.parameters = list(backbone.trainable().values())
        # On CUDA this is what AdamW does unasked; fake tensors would get the slow loop.
        self.optimiser = torch.optim.AdamW(self.parameters, lr=1e-6, foreach=True)
        self.encoder = (
            SparseEncoder(backbone, 0.0) if setting.sparse else DenseEncoder(backbone, "tokens")
        )
        self.terms = [Contrastive(1.0), MarginMSE(1.0)]
        self.regulariser = FlopsRegulariser(0.05, 0.04, 1.0)
        self.texts = [np.ones(length, dtype=np.int32) for length in setting.lengths_N]

    def make_moments(self) -> None:
        """What the first step of AdamW adds, without that step."""
        unused = None if self.setting.sparse or self.setting.tied else self.encoder.backbone.head_VD
        for parameter in self.parameters:
            if parameter is not unused:
                parameter.grad = torch.zeros_like(parameter)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def step(self) -> None:
        """One optimiser step."""
        setting, queries = self.setting, self.setting.queries
        tokens, cached = setting.micro_batch_tokens, setting.cached
        embedding = Embedding(self.encoder, self.texts, tokens, self.device, cached=cached)
        query_BD, passage_ND = embedding.vectors_ND[:queries], embedding.vectors_ND[queries:]
        teacher_BG = torch.zeros(queries, setting.group, device=query_BD.device)
        step = Representations(
            query_BD=query_BD,
            passage_BGD=passage_ND.unflatten(0, (queries, -1)),
            all_query_QD=query_BD,
            candidate_CD=passage_ND,
            offset=0,
            temperature=1.0,
            teacher_BG=teacher_BG,
        )
        terms = [term(step) for term in self.terms]
        if self.setting.sparse:
            terms += self.regulariser(step, 1.0).values()
        torch.stack(terms).sum().backward()
        del step, terms, query_BD, passage_ND, teacher_BG
        embedding.backward()
        del embedding
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()


def fake_peak(setting: Setting) -> int:
    """Bytes alive at the peak of a step with AdamW's moments in place, on fake tensors."""
    backbone = build(setting, "meta")
    ranks = fake_ranks(setting.shards) if setting.shards > 1 else None
    with fake_cuda():
        materialise(backbone)
        if ranks:
            shard(backbone, ranks)
            gc.collect()
        with LiveBytes() as live:
            for tensor in [*backbone.parameters(), *backbone.buffers()]:
                live.add(tensor.to_local() if isinstance(tensor, DTensor) else tensor)
            trainer = Trainer(setting, backbone, "cpu")
            trainer.make_moments()
            live.peak = live.now
            trainer.step()
    return live.peak


def cuda_peak(setting: Setting, steps: int) -> tuple[int, float]:
    """(most bytes allocated in a step, its seconds): the median of some steps after the first."""
    trainer = Trainer(setting, build(setting, "cuda"), "cuda")
    trainer.step()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(steps):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        trainer.step()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    return torch.cuda.max_memory_allocated(), statistics.median(seconds)


@dataclass(frozen=True)
class Found:
    """A setting's peak in bytes and its seconds a step; None where that is not known."""

    title: str
    setting: Setting
    measured: int | None
    seconds: float | None

    @classmethod
    def of(cls, title: str, setting: Setting, cuda: bool, steps: int = 3) -> "Found":
        """Measure; on CUDA so many steps are timed."""
        try:
            measured, seconds = cuda_peak(setting, steps) if cuda else (fake_peak(setting), None)
        except torch.cuda.OutOfMemoryError:
            measured = seconds = None
        return cls(title, setting, measured, seconds)

    @property
    def ratio(self) -> float | None:
        """Predicted to measured bytes."""
        return self.measured and self.setting.predicted().total / self.measured

    @property
    def flops(self) -> int:
        """What the step executes, on padding too."""
        setting = self.setting
        flops_N = executed_flops(
            setting.shape,
            setting.padded_N,
            sparse=setting.sparse,
            lora=setting.lora,
            cached=setting.cached,
        )
        return int(flops_N.sum())

    def row(self) -> list[str]:
        """Cells of the table."""
        predicted = self.setting.predicted()
        parts = (predicted.weights, predicted.activations, predicted.head, predicted.optimiser)
        cells = [self.title] + [f"{part / GIB:.2f}" for part in (*parts, predicted.total)]
        if self.measured is None:
            return [*cells, "out of memory", "-", "-", "-"]
        cells += [f"{self.measured / GIB:.2f}", f"{self.ratio:.3f}"]
        if self.seconds is None:
            return [*cells, "-", "-"]
        return [*cells, f"{self.seconds:.2f}", f"{self.flops / self.seconds / 1e12:.0f}"]


def main() -> None:
    """Print the table, say which check it was, and keep the ratios."""
    cuda = torch.cuda.is_available()
    if cuda:
        device = f"{torch.cuda.get_device_name()}: torch.cuda.max_memory_allocated"
    else:
        torch.set_num_threads(1)
        device = "no CUDA device: storages of fake tensors are summed up; nothing ran, no time"
    print(f"{device}\n")
    columns = ["step", "weights", "activations", "head", "optimiser"]
    columns += ["predicted GiB", "measured GiB", "ratio", "s/step", "TFLOP/s"]
    print(f"| {' | '.join(columns)} |\n| --- |{' ---: |' * (len(columns) - 1)}", flush=True)
    steps = product(SHAPES, (False, True), ((16, 17), (112, 17), (512, 2)))
    found = []
    for size, sparse, (queries, group) in steps:
        title = f"{size} {'sparse' if sparse else 'dense'} {queries} x {group}"
        setting = Setting(SHAPES[size], queries, group, TIED[size], sparse)
        found.append(Found.of(title, setting, cuda))
        print(f"| {' | '.join(found[-1].row())} |", flush=True)
        gc.collect()
        torch.cuda.empty_cache()  # does nothing without CUDA
    ratios = {step.title: step.ratio for step in found if step.ratio}
    if off := [title for title, ratio in ratios.items() if abs(ratio - 1) > TOLERANCE]:
        raise SystemExit(f"Predicted is not measured memory: {', '.join(off)}")
    sides = {
        step.title: {"predicted": step.setting.predicted().total, "measured": step.measured}
        for step in found
    }
    values = sorted(ratios.values())
    interleaved.write(
        {
            "sides": sides,
            "unit": "bytes",
            "ratio": {"median": statistics.median(values), "min": values[0], "max": values[-1]},
        },
        checked=f"predicted to measured bytes, to {TOLERANCE:.0%}",
        packages=["torch", "transformers", "peft"],
        facts={"seconds": {step.title: step.seconds for step in found}} if cuda else {},
        device=device,
    )


if __name__ == "__main__":
    main()
