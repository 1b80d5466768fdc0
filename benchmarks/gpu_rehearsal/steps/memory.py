"""Peak memory and seconds of full-size steps, predicted and measured.

LoRA, cached gradients, micro-batches as the plan would cut them for the device. The share of the
published peak is what `site.efficiency` stands for. Without CUDA the step runs on fake tensors,
whose storages are summed up.
"""

from collections.abc import Iterator
from dataclasses import replace

from benchmarks import workload
from benchmarks.gpu_rehearsal.target import GIB, Case, Figure, Target
from benchmarks.machine import published
from benchmarks.training_memory import Found, Setting

# (size, sparse, queries of 17 passages, steps that are timed). An 8B step of 112 queries, as the 1B
# one has, would take a quarter of a minute, with the same micro-batches and so the same memory.
STEPS = (("1b", True, 112, 3), ("8b", False, 32, 2), ("8b", True, 32, 2), ("3b", True, 32, 2))
PASSAGES = 17
SLACK = 1.05  # of the prediction, for what the libraries hold


def cases(target: Target) -> list[Case]:
    """One per size and paradigm."""
    return [_case(target, *step) for step in STEPS]


def _case(target: Target, size: str, sparse: bool, queries: int, steps: int) -> Case:
    name = target.pick(size, workload.TINY)
    setting = Setting(
        workload.SIZES[name],
        target.pick(queries, 2),
        target.pick(PASSAGES, 3),
        workload.TIED[name],
        sparse,
    )
    setting = _fitting(setting, target) if target.device.cuda else setting
    title = f"memory {size} {'sparse' if sparse else 'dense'}"
    needed = SLACK * setting.predicted().total / GIB
    return Case(title, lambda: _measure(target, title, setting, steps), needed)


def _fitting(setting: Setting, target: Target) -> Setting:
    """With the largest micro-batches that fit the device, as the plan halves them."""
    usable = published().usable_bytes or float("inf")
    usable = min(usable, target.free_gib * GIB / SLACK)
    while setting.predicted().total > usable and setting.micro_batch_tokens > 512:
        setting = replace(setting, micro_batch_tokens=setting.micro_batch_tokens // 2)
    return setting


def _measure(target: Target, title: str, setting: Setting, steps: int) -> Iterator[Figure]:
    found = Found.of(title, setting, target.device.cuda, steps)
    if not found.ratio or not found.measured:
        raise RuntimeError(f"out of memory, of {setting.predicted().total / GIB:.1f} GiB predicted")
    yield Figure("predicted", setting.predicted().total / GIB, "GiB")
    yield Figure("measured", found.measured / GIB, "GiB")
    yield Figure("prediction, off by", abs(found.ratio - 1), "%")
    yield Figure("tokens of a micro-batch", setting.micro_batch_tokens)
    share, peak = None, published().peak_flops if target.device.cuda else None
    if found.seconds and peak:
        share = found.flops / found.seconds / peak
    yield Figure("step", found.seconds, "s")
    yield Figure("executed, share of the peak", share, "%")
