"""The sparse head's speed and memory: against cuBLAS, and against the study's formulation."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

from benchmarks import sparse_head_gpu
from benchmarks.gpu_rehearsal.bars import WIDTHS
from benchmarks.gpu_rehearsal.steps.kernels import TINY, TINY_WIDTHS, on_every_device
from benchmarks.gpu_rehearsal.target import Case, Figure, Target

ACTIVE = {"1 % active": 0.01, "all active": 1.0}


def cases(target: Target) -> list[Case]:
    """One per hidden size."""
    return [Case(f"head {size}", partial(_measure, target, size), 55) for size in WIDTHS]


def _measure(target: Target, size: str) -> Iterator[Figure]:
    width, sizes = target.pick((WIDTHS[size], sparse_head_gpu.FULL), (TINY_WIDTHS[size], TINY))
    rounds = target.pick(10, 1)
    made = sparse_head_gpu.inputs(width, target.device.device, sizes, target.seed)
    with nullcontext() if target.device.cuda else on_every_device():
        sparse_head_gpu.check(made)
        forward = sparse_head_gpu.forward(made, rounds)
        yield Figure("forward, share of cuBLAS", forward["ratio"]["median"])
        for name, share in ACTIVE.items():
            both = sparse_head_gpu.both(made, share, False, rounds)
            yield Figure(f"forward and backward, {name}, times faster", both["ratio"]["median"])
        yield Figure(
            "forward and backward, times less memory",
            both["peak_ratio"]["released"] if target.device.cuda else None,
        )
        yield Figure(
            "forward and backward, peak",
            both["peak_MB"]["head"] if target.device.cuda else None,
            "MB",
        )
        trained = sparse_head_gpu.both(made, 0.01, True, rounds)
        yield Figure(
            "forward and backward, weight trained, 1 % active, times faster",
            trained["ratio"]["median"],
        )
