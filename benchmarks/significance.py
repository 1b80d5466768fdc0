"""All pairs of 18 systems in one product of matrices, against a loop over pairs and permutations.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.significance

Both sides draw the same signs, so their p values must be equal to the last digit before anything is
timed. Scores are random, of as many queries as MS MARCO's development set has; the loop gets few
permutations, so that it ends within a minute. Writes benchmarks/results/significance.json.

Shapes: S systems, Q queries, R pairs.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np

from lion_sweep.evaluation.significance import randomisation_test

SYSTEMS, QUERIES, PERMUTATIONS, FULL_PERMUTATIONS, ROUNDS = 18, 6980, 400, 10_000, 5
RESULT = Path(__file__).with_name("results") / "significance.json"


def looped(scores_SQ: np.ndarray, permutations: int, seed: int) -> list[float]:
    """p of every pair by the definition: draw signs, flip, sum, count.

    Signs drawn query by query are those of one big draw where the queries are a multiple of 4,
    as the generator makes four of these numbers at a time.
    """
    p_R = []
    for a_Q, b_Q in combinations(scores_SQ, 2):
        generator = np.random.default_rng(seed)
        difference_Q = a_Q - b_Q
        observed = abs(difference_Q.sum())
        extreme = 0
        for _ in range(permutations):
            bits_Q = generator.integers(0, 2, size=len(difference_Q), dtype=np.int8)
            extreme += abs(difference_Q @ (bits_Q * 2.0 - 1.0)) >= observed
        p_R.append((extreme + 1) / (permutations + 1))
    return p_R


def interleaved(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in every round; within a round the sides run one after the other."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def processor() -> str:
    """What the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> int:
    """Check equality, measure, print the ratio, write the result; 1 where the sides differ."""
    scores_SQ = np.random.default_rng(0).random((SYSTEMS, QUERIES))
    sides: dict[str, Callable[[], object]] = {
        "loop": lambda: looped(scores_SQ, PERMUTATIONS, 0),
        "all pairs": lambda: randomisation_test(scores_SQ, PERMUTATIONS, 0),
    }
    expected_R = looped(scores_SQ, PERMUTATIONS, 0)
    equal = randomisation_test(scores_SQ, PERMUTATIONS, 0).tolist() == expected_R
    if not equal:
        print("the two sides give different p values", file=sys.stderr)
        return 1
    seconds = interleaved(sides, ROUNDS)
    ratios = [loop / ours for loop, ours in zip(seconds["loop"], seconds["all pairs"], strict=True)]
    ratio = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    start = time.perf_counter()
    randomisation_test(scores_SQ, FULL_PERMUTATIONS, 0)
    full = time.perf_counter() - start

    pairs = SYSTEMS * (SYSTEMS - 1) // 2
    print(f"{pairs} pairs, {QUERIES} queries, {PERMUTATIONS} permutations, {ROUNDS} rounds")
    for name, found in seconds.items():
        each = statistics.median(found) / (pairs * PERMUTATIONS) * 1e6
        print(f"{name:<10} {statistics.median(found):8.3f} s {each:8.3f} us per permutation")
    print(f"loop / all pairs: {ratio['median']:.0f} ({ratio['min']:.0f} to {ratio['max']:.0f})")
    print(f"all pairs with {FULL_PERMUTATIONS:,} permutations: {full:.2f} s")
    threads = os.environ.get("OPENBLAS_NUM_THREADS")
    limit = f"OPENBLAS_NUM_THREADS={threads} " if threads else ""
    result = {
        "sides": {name: {"seconds": found} for name, found in seconds.items()},
        "ratio": ratio,
        "equal": equal,
        "pairs": pairs,
        "queries": QUERIES,
        "permutations": PERMUTATIONS,
        "all pairs in full": {"permutations": FULL_PERMUTATIONS, "seconds": full},
        "device": processor(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "command": f"{limit}python -m benchmarks.significance",
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
