"""torch.compile on and off, for a training step at 1B and 8B; and how long compiling takes."""

import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch._inductor.config as inductor

from benchmarks import compiled_step, workload
from benchmarks.gpu_rehearsal.target import Case, Figure, Target
from benchmarks.training_memory import Setting

# (size, queries, tokens of a micro-batch, GiB): the decoder is there twice.
STEPS = (("1b", 16, 16384, 45), ("8b", 8, 4096, 65))


def cases(target: Target) -> list[Case]:
    """One per size; a small run compiles one decoder alone, as that takes long."""
    return [
        Case(f"compiled {size}", partial(_measure, target, size, queries, tokens), gib)
        for size, queries, tokens, gib in target.pick(STEPS, STEPS[:1])
    ]


def _measure(target: Target, size: str, queries: int, tokens: int) -> Iterator[Figure]:
    name = target.pick(size, workload.TINY)
    setting = Setting(
        workload.SIZES[name],
        target.pick(queries, 2),
        compiled_step.GROUP,
        tied=workload.TIED[name],
        sparse=False,
        bf16=target.device.bf16,
        micro_batch_tokens=target.pick(tokens, 1024),
    )
    if target.tiny:  # one graph instead of three
        setting = replace(setting, lora=None, cached=False)
    with _quick(target):
        measured, spent = compiled_step.timed(setting, target.device, target.pick(5, 1))
    ours, plain = measured[compiled_step.OURS], measured[compiled_step.PLAIN]
    ratios = [b / a for a, b in zip(ours, plain, strict=True)]
    facts = spent[compiled_step.OURS]
    repaid = facts["passes that repay it"]
    yield Figure("step, times faster", statistics.median(ratios))
    yield Figure("step, compiled", statistics.median(ours), "s")
    yield Figure("compiling", facts["compile seconds"], "s")
    yield Figure("graphs", facts["graphs"])
    yield Figure("steps that repay it", None if repaid == "never" else repaid)


def _quick(target: Target) -> AbstractContextManager[object]:
    """Plain code without optimisation, which compiles in half the time on a CPU."""
    if target.device.cuda:
        return nullcontext()
    return inductor.patch({"aot_inductor.debug_compile": True, "cpp.simdlen": 1})
