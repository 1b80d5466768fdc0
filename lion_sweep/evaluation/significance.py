"""Paired randomisation tests, bootstrap intervals and Holm's correction over many systems.

All pairs of systems share the random signs, and all systems the resampled queries, so that each is
one product of matrices. Hence neither the p value nor the interval of a pair depends on which other
systems are there, or on their order. Signs are drawn query by query: `align` sorts the queries by
id, so that the order in which they were stored makes no difference either.

Shapes: S systems, Q queries, R pairs of systems in the order of itertools.combinations, P
permutations and B bootstrap samples of one block, 2 the ends of an interval.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Most random numbers, and most draws of all queries, made at once. They bound memory: 32 MiB as
# float64 for the numbers, and 20 MiB for the differences of the 153 pairs of 18 systems.
_NUMBERS_PER_BLOCK, _DRAWS_PER_BLOCK = 2**22, 2**14


def align(systems: Mapping[str, Mapping[str, float]]) -> Array:
    """Return scores_SQ of name -> query id -> value: systems in their order, queries by id.

    Raises `ValueError` where there is no system or no query, two systems differ in their queries,
    or a value is not finite.
    """
    if not systems:
        raise ValueError("there is no system to align")
    (first, reference), *others = systems.items()
    if not reference:
        raise ValueError(f"system {first!r} has no queries, at least one query is needed")
    for name, values in others:
        if unmatched := sorted(values.keys() ^ reference.keys()):
            raise ValueError(
                f"{len(unmatched)} queries are only in one of the systems {first!r} and {name!r}, "
                f"among them {unmatched[:5]}"
            )
    query_ids = sorted(reference)
    scores_SQ = np.array([[values[q] for q in query_ids] for values in systems.values()], float)
    if not np.isfinite(scores_SQ).all():
        raise ValueError("a value is not finite")
    return scores_SQ


def randomisation_test(scores_SQ: Array, permutations: int = 10_000, seed: int = 0) -> Array:
    """Return p_R, the two-sided p value of the mean difference of every pair of systems.

    Under the null hypothesis the sign of each query's difference is arbitrary; p is the share of
    random sign flips whose mean difference is at least as large as the observed one. The observed
    signs count as one of the draws (Phipson and Smyth, 2010), so p is never 0. Source: Smucker,
    Allan and Carterette, CIKM 2007.

    Scores are those of `align`. The standard error of p is sqrt(p (1 - p) / permutations), and the
    same seed gives the same p.
    """
    queries = scores_SQ.shape[1]
    size_S = np.abs(scores_SQ).sum(axis=1)
    # Flips that equal the observed sum in exact arithmetic may round to just below it.
    rounding_R = 1e-11 * _over_pairs(np.add, size_S)
    observed_R = np.abs(_over_pairs(np.subtract, scores_SQ.sum(axis=1))) - rounding_R
    generator = np.random.default_rng(seed)
    extreme_R = np.zeros(len(observed_R), int)
    for block in _blocks(permutations, queries):
        bits_PQ = generator.integers(0, 2, size=(block, queries), dtype=np.int8)
        flipped_PS = (bits_PQ * 2.0 - 1.0) @ scores_SQ.T
        extreme_R += (np.abs(_over_pairs(np.subtract, flipped_PS)) >= observed_R).sum(axis=0)
    return (extreme_R + 1) / (permutations + 1)


def paired_randomisation(
    a: Mapping[str, float], b: Mapping[str, float], permutations: int = 10_000, seed: int = 0
) -> float:
    """Return the p value of `randomisation_test` for two systems, as query id -> value."""
    [p] = randomisation_test(align({"a": a, "b": b}), permutations, seed)
    return float(p)


def bootstrap_intervals(
    scores_SQ: Array, samples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[Array, Array]:
    """Return the intervals of the means (S2) and of the mean differences of all pairs (R2).

    Percentile intervals over samples of the queries with replacement; they say what other queries
    of the same kind may give, not what another training run may. Source: Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13.

    Scores are those of `align`; `level` is the share of the samples inside an interval, 0 to 1. The
    same seed gives the same intervals. Raises `ValueError` where there are fewer than two queries,
    which leaves nothing to resample.
    """
    queries = scores_SQ.shape[1]
    if queries < 2:
        raise ValueError("a bootstrap interval needs at least two queries")
    generator = np.random.default_rng(seed)
    means = []
    for block in _blocks(samples, queries):
        draws_BQ = generator.integers(0, queries, size=(block, queries))
        # How often each query was drawn: multinomial counts, faster than drawing them as such.
        counts_BQ = np.stack([np.bincount(draws_Q, minlength=queries) for draws_Q in draws_BQ])
        means.append(counts_BQ @ scores_SQ.T / queries)
    means_S = np.concatenate(means)
    tails = [(1 - level) / 2, (1 + level) / 2]
    differences_R = _over_pairs(np.subtract, means_S)
    return np.quantile(means_S, tails, axis=0).T, np.quantile(differences_R, tails, axis=0).T


def holm(p_R: Array) -> Array:
    """Return the p values adjusted for their number, so that comparing them with a level bounds
    the probability of any false rejection by it. Source: Holm, Scandinavian J. of Statistics 1979.
    """
    order_R = np.argsort(p_R, kind="stable")
    tested_R = np.arange(len(p_R), 0, -1)  # hypotheses left when the r-th smallest is tested
    stepped_R = np.maximum.accumulate(tested_R * p_R[order_R])
    return np.minimum(stepped_R, 1.0)[np.argsort(order_R)]


def _blocks(draws: int, queries: int) -> Iterator[int]:
    """How many draws of `queries` numbers each to make at a time; they add up to `draws`."""
    most = max(1, min(_DRAWS_PER_BLOCK, _NUMBERS_PER_BLOCK // queries))
    for start in range(0, draws, most):
        yield min(most, draws - start)


def _over_pairs(operation: np.ufunc, values_S: Array) -> Array:
    """The operation between the systems (last dimension) of every pair."""
    first_R, second_R = np.triu_indices(values_S.shape[-1], 1)
    return operation(values_S[..., first_R], values_S[..., second_R])
