"""What the rehearsal has to reach: every bar, in the order of the table.

Keys are "case: figure". Bars of correctness hold on every device and at every size; the others are
about one H100 or H200 at full size.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A value to reach, and one that would be better still."""

    goal: float
    stretch: float | None = None
    at_most: bool = False  # otherwise at least
    correctness: bool = False

    def met(self, value: float | None, whole: bool) -> bool | None:
        """Whether a value reaches it, which what is not a number never does; None: not told.

        `whole` says whether the value is that of a GPU at full size.
        """
        if value is None or not (whole or self.correctness):
            return None
        return value <= self.goal if self.at_most else value >= self.goal


NONE_DIFFERS = Bar(0, at_most=True, correctness=True)
WIDTHS = {"1b": 2048, "3b": 3072, "8b": 4096}
HEAD_SPEEDUP = {"1b": 2.8, "3b": 2.5, "8b": 2.2}


def _kernels() -> dict[str, Bar]:
    bars = {"kernels, the CPU's tests: tests that fail": NONE_DIFFERS}
    for size in WIDTHS:
        bars |= {
            f"kernels {size}: numbers that differ from float64": NONE_DIFFERS,
            f"kernels {size}: y, error": Bar(1e-4, at_most=True, correctness=True),
            f"kernels {size}: gradient of the states, error": Bar(
                1e-2, at_most=True, correctness=True
            ),
            f"kernels {size}: gradient of the weight, error": Bar(
                1e-2, at_most=True, correctness=True
            ),
            f"kernels {size}: numbers that differ between two runs": NONE_DIFFERS,
        }
    return bars


def _memory() -> dict[str, Bar]:
    cases = ("1b sparse", "8b dense", "8b sparse", "3b sparse")
    return {
        f"memory {case}: prediction, off by": Bar(0.1, at_most=True, correctness=True)
        for case in cases
    }


def _head() -> dict[str, Bar]:
    bars: dict[str, Bar] = {}
    for size in WIDTHS:
        bars |= {
            f"head {size}: forward, share of cuBLAS": Bar(0.6, 0.85),
            f"head {size}: forward and backward, 1 % active, times faster": Bar(HEAD_SPEEDUP[size]),
            f"head {size}: forward and backward, all active, times faster": Bar(1.0),
            f"head {size}: forward and backward, times less memory": Bar(100),
        }
    return bars


BARS: dict[str, Bar] = {
    **_kernels(),
    **_memory(),
    **_head(),
    "training 8b dense: real tokens/s, times the study's loop": Bar(2.5, 3.5),
    "training 8b dense: useful MFU": Bar(0.4, 0.5),
    "training 1b sparse: real tokens/s, times the study's loop": Bar(3, 4),
    "training 1b sparse: useful MFU": Bar(0.35),
    "encoding 1b: sparse, real tokens/s, times the study's way": Bar(2.5, 4),
    "encoding 1b: dense, real tokens/s, times the study's way": Bar(2.5, 4),
    "encoding 8b: sparse, real tokens/s, times the study's way": Bar(2.5, 4),
    "encoding 8b: dense, real tokens/s, times the study's way": Bar(2.5, 4),
    "encoding 8b: dense, useful MFU": Bar(0.45),
    "cells: killed and resumed, weights that differ": NONE_DIFFERS,
    "search 1M x 2,048: hits that differ from the CPU's": NONE_DIFFERS,
    "search 1M x 2,048: hits that differ from float64": NONE_DIFFERS,
    "search 8.8M x 1,024: hits that differ from float64": NONE_DIFFERS,
    "search 8.8M x 1,024: queries/s": Bar(1000),
    "search as many x 4,096 as fit: hits that differ from float64": NONE_DIFFERS,
}
