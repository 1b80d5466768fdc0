"""Paired randomisation test between two systems on the same queries.

Shapes: P permutations of one block, Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_SIGNS_PER_BLOCK = 2**22
"""Most signs drawn at once, to bound memory: 32 MiB as float64."""


def paired_randomisation(
    a: Mapping[str, float], b: Mapping[str, float], permutations: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p value of the mean difference between two systems.

    Under the null hypothesis the sign of each query's difference is arbitrary; p is the share of
    random sign flips whose mean difference is at least as large as the observed one. The observed
    signs count as one of the draws (Phipson and Smyth, 2010), so p is never 0. Source: Smucker,
    Allan and Carterette, CIKM 2007.

    Args:
        a: query id -> value of a measure for the first system.
        b: the same for the second system, on the same queries.
        permutations: number of random sign flips, at least 1.
        seed: of the random generator; the same seed gives the same p.

    Raises:
        ValueError: the queries differ or are none, a value is not finite, or permutations is
            below 1.
    """
    if a.keys() != b.keys():
        unmatched = sorted(a.keys() ^ b.keys())
        raise ValueError(
            f"{len(unmatched)} queries are in one system only, among them {unmatched[:5]}"
        )
    if not a:
        raise ValueError("the test needs at least one query")
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, not {permutations}")
    # Sorted, so that p does not depend on the order of the mappings.
    difference_Q = np.array([a[query_id] - b[query_id] for query_id in sorted(a)])
    if not np.isfinite(difference_Q).all():
        raise ValueError("a value is not finite")
    # Flips that equal the observed sum in exact arithmetic may round to just below it.
    observed = abs(difference_Q.sum()) - 1e-9 * np.abs(difference_Q).sum()
    generator = np.random.default_rng(seed)
    block = max(1, _SIGNS_PER_BLOCK // len(difference_Q))
    extreme = 0
    for start in range(0, permutations, block):
        shape = (min(block, permutations - start), len(difference_Q))
        signs_PQ = generator.integers(0, 2, size=shape, dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs_PQ @ difference_Q) >= observed).sum())
    return (extreme + 1) / (permutations + 1)
