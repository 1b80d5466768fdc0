"""Training steps against the study's loop, on the same weights and texts.

Queries are about those of one of eight GPUs. On 80 GB the graphs of the 8B step do not fit, so that
its gradients are cached, which is half as many FLOPs again; those of 3 queries do.
"""

import statistics
from collections.abc import Iterator

from benchmarks import interleaved, machine, training_step, workload
from benchmarks.gpu_rehearsal.target import GIB, Case, Figure, Target

# (case, size, queries, the study's micro-batch, active share of the vocabulary or None, GiB). At 1B
# the micro-batch is half of the study's: its fp32 logits would take all of 80 GB.
STEPS = (
    ("8b dense", "8b", 8, 8, None, 74),
    ("1b sparse", "1b", 14, 14, 0.01, 65),
    ("8b dense, 3 queries", "8b", 3, 3, None, 65),
)


def cases(target: Target) -> list[Case]:
    """One per step."""

    def case(
        name: str, size: str, queries: int, part: int, share: float | None, gib: float
    ) -> Case:
        run = target.pick((size, queries, part, share), (workload.TINY, 2, 1, share and 0.1))
        return Case(f"training {name}", lambda: _measure(target, *run), gib)

    return [case(*step) for step in target.pick(STEPS, STEPS[:2])]


def _measure(
    target: Target, size: str, queries: int, part: int, share: float | None
) -> Iterator[Figure]:
    device = target.device
    step = training_step.checked(size, device, queries, part, share)
    measured = interleaved.seconds(step.sides, target.pick(3, 1), device.wait)
    ours, theirs = (statistics.median(values) for values in measured.values())
    real = int(step.lengths_N.sum())
    ratios = [b / a for a, b in zip(*measured.values(), strict=True)]
    yield Figure("real tokens/s, times the study's loop", statistics.median(ratios))
    cuda, flops = device.cuda, step.useful_flops
    yield Figure("useful MFU", machine.share_of_peak(flops, ours) if cuda else None, "%")
    yield Figure(
        "useful MFU, the study's", machine.share_of_peak(flops, theirs) if cuda else None, "%"
    )
    yield Figure("real tokens/s", real / ours)
    yield Figure("real tokens/s, the study's", real / theirs)
    yield Figure("gradients cached", int(step.cached))
    for side, run in step.sides.items():
        yield Figure(f"peak, {side}", machine.peak(run)[0] / GIB if cuda else None, "GiB")
