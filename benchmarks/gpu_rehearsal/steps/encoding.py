"""Encoding passages: adapters merged, sorted by length, sparse rows; against the study's way."""

import statistics
from collections.abc import Iterator

from benchmarks import encoding, machine, workload
from benchmarks.gpu_rehearsal.target import Case, Figure, Target

STEPS = (("1b", 1024, 30), ("8b", 512, 60))  # size, passages, GiB
PARADIGMS = ("sparse", "dense")


def cases(target: Target) -> list[Case]:
    """One per size."""

    def case(size: str, texts: int, gib: float) -> Case:
        run = target.pick((size, texts), (workload.TINY, 8))
        return Case(f"encoding {size}", lambda: _measure(target, *run), gib)

    return [case(*step) for step in STEPS]


def _measure(target: Target, size: str, count: int) -> Iterator[Figure]:
    texts = workload.encoded_texts(count, workload.SIZES[size].vocabulary)
    real, rounds = int(encoding.lengths(texts).sum()), target.pick(3, 1)
    for paradigm, run in encoding.timed(size, texts, target.device, PARADIGMS, rounds):
        ours, theirs = (run.seconds[side] for side in (encoding.OURS, encoding.RELEASED))
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        seconds = statistics.median(ours)
        share = machine.share_of_peak(run.flops, seconds) if target.device.cuda else None
        yield Figure(f"{paradigm}, real tokens/s, times the study's way", statistics.median(ratios))
        yield Figure(f"{paradigm}, useful MFU", share, "%")
        yield Figure(f"{paradigm}, real tokens/s", real / seconds)
