"""Paired randomisation tests, bootstrap intervals and corrections over many systems.

All pairs of systems share the random signs, and all systems the resampled queries, so that each is
one product of matrices. Hence neither the p value nor the interval of a pair depends on which other
systems are there, or on their order. Signs are drawn query by query: `align` sorts the queries by
id, so that the order in which they were stored makes no difference either.

Shapes: S systems, Q queries, R pairs of systems (all of them, in the order of
itertools.combinations, where none are named), P permutations and B bootstrap samples of one block,
2 the ends of an interval or the systems of a pair.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

# Most random numbers, and most draws of all queries, made at once. They bound memory: 32 MiB as
# float64 for the numbers, of the queries as of the pairs.
_NUMBERS_PER_BLOCK, _DRAWS_PER_BLOCK = 2**22, 2**14


class Tests(NamedTuple):
    """p values of every pair: of each for itself, and adjusted by the maximum over all pairs."""

    p_R: Array
    maxt_R: Array


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


def all_pairs(systems: int) -> Rows:
    """pairs_R2 of so many systems."""
    return np.stack(np.triu_indices(systems, 1), axis=1)


def randomisation_tests(
    scores_SQ: Array, permutations: int = 10_000, seed: int = 0, pairs_R2: Rows | None = None
) -> Tests:
    """Return the two-sided p values of the mean differences of the pairs of systems.

    Under the null hypothesis the sign of each query's difference is arbitrary; p is the share of
    random sign flips whose mean difference is at least as large as the observed one. The observed
    signs count as one of the draws (Phipson and Smyth, 2010), so p is never 0. Source: Smucker,
    Allan and Carterette, CIKM 2007.

    The adjusted p is the step-down MaxT over the same flips: pairs are tested from the largest
    statistic to the smallest, each against the largest flipped one among itself and those after
    it. So it uses how pairs depend on each other, which Holm's correction does not. The statistic
    is |sum| / sqrt(sum of squares), the same function of every pair's t, as flips change no square.
    Flips of pairs that do not differ know nothing of the others, so the level holds whichever do.
    Source: Westfall and Young, Resampling-Based Multiple Testing, 1993; Ge, Dudoit and Speed, 2003.

    Scores are those of `align`. The standard error of p is sqrt(p (1 - p) / permutations), and the
    same seed gives the same p.
    """
    queries = scores_SQ.shape[1]
    pairs_R2 = all_pairs(len(scores_SQ)) if pairs_R2 is None else pairs_R2
    if not len(pairs_R2):
        return Tests(np.ones(0), np.ones(0))
    # Flips that equal the observed sum in exact arithmetic may round to just below it.
    rounding_R = 1e-11 * np.abs(scores_SQ).sum(axis=1)[pairs_R2].sum(axis=1)
    observed_R = np.abs(_less(scores_SQ.sum(axis=1), pairs_R2)) - rounding_R
    norm_R = _norms(scores_SQ, pairs_R2)
    statistic_R = observed_R / norm_R
    first_R, second_R = pairs_R2.T
    order_R = np.argsort(-statistic_R, kind="stable")
    generator = np.random.default_rng(seed)
    extreme_R, higher_R = np.zeros(len(pairs_R2), int), np.zeros(len(pairs_R2), int)
    for block in _blocks(permutations, queries):
        bits_PQ = generator.integers(0, 2, size=(block, queries), dtype=np.int8)
        flipped_PS = (bits_PQ * 2.0 - 1.0) @ scores_SQ.T
        for some_PS in _slices(flipped_PS, len(pairs_R2)):
            # Systems first: the values of a pair then lie side by side, which is much faster.
            some_SP = np.ascontiguousarray(some_PS.T)
            flipped_RP = some_SP[first_R]
            flipped_RP -= some_SP[second_R]
            np.abs(flipped_RP, out=flipped_RP)
            extreme_R += np.count_nonzero(flipped_RP >= observed_R[:, None], axis=1)
            flipped_RP /= norm_R[:, None]
            # From the last test to the first, the largest statistic so far.
            largest_P = np.zeros(len(some_PS))
            for pair in order_R[::-1]:
                np.maximum(largest_P, flipped_RP[pair], out=largest_P)
                higher_R[pair] += np.count_nonzero(largest_P >= statistic_R[pair])
    stepped_R = np.maximum.accumulate((higher_R[order_R] + 1) / (permutations + 1))
    return Tests((extreme_R + 1) / (permutations + 1), stepped_R[np.argsort(order_R)])


def randomisation_test(
    scores_SQ: Array, permutations: int = 10_000, seed: int = 0, pairs_R2: Rows | None = None
) -> Array:
    """Return p_R of `randomisation_tests`, of each pair for itself."""
    return randomisation_tests(scores_SQ, permutations, seed, pairs_R2).p_R


def paired_randomisation(
    a: Mapping[str, float], b: Mapping[str, float], permutations: int = 10_000, seed: int = 0
) -> float:
    """Return the p value of `randomisation_test` for two systems, as query id -> value."""
    [p] = randomisation_test(align({"a": a, "b": b}), permutations, seed)
    return float(p)


def bootstrap_intervals(
    scores_SQ: Array,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
    pairs_R2: Rows | None = None,
) -> tuple[Array, Array]:
    """Return the intervals of the means (S2) and of the mean differences of the pairs (R2).

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
    pairs_R2 = all_pairs(len(scores_SQ)) if pairs_R2 is None else pairs_R2
    generator = np.random.default_rng(seed)
    means = []
    for block in _blocks(samples, queries):
        draws_BQ = generator.integers(0, queries, size=(block, queries))
        # How often each query was drawn: multinomial counts, faster than drawing them as such.
        counts_BQ = np.stack([np.bincount(draws_Q, minlength=queries) for draws_Q in draws_BQ])
        means.append(counts_BQ @ scores_SQ.T / queries)
    means_S = np.concatenate(means)
    tails = [(1 - level) / 2, (1 + level) / 2]
    means_SB = np.ascontiguousarray(means_S.T)
    differences = [
        np.quantile(means_SB[some_R2[:, 0]] - means_SB[some_R2[:, 1]], tails, axis=1).T
        for some_R2 in _slices(pairs_R2, len(means_S))
    ]
    return np.quantile(means_S, tails, axis=0).T, np.concatenate([np.empty((0, 2)), *differences])


def effect_sizes(scores_SQ: Array, pairs_R2: Rows | None = None) -> Array:
    """Return Cohen's d_R of the pairs: mean of the queries' differences over their deviation.

    NaN where all differences are equal, which leaves nothing to compare the mean with. Source:
    Cohen, Statistical Power Analysis, 1988, chapter 2 (d_z, for paired samples).
    """
    pairs_R2 = all_pairs(len(scores_SQ)) if pairs_R2 is None else pairs_R2
    mean_R = _less(scores_SQ.mean(axis=1), pairs_R2)
    queries, square_R = scores_SQ.shape[1], _squares(scores_SQ, pairs_R2)
    if queries < 2:
        return np.full(len(pairs_R2), np.nan)
    variance_R = (square_R - queries * mean_R**2) / (queries - 1)
    # What is left of differences that are all equal is rounding.
    equal_R = variance_R <= 1e-12 * square_R / queries
    return mean_R / np.sqrt(np.where(equal_R, np.nan, variance_R))


def holm(p_R: Array) -> Array:
    """Return the p values adjusted for their number, so that comparing them with a level bounds
    the probability of any false rejection by it. Source: Holm, Scandinavian J. of Statistics 1979.
    """
    order_R = np.argsort(p_R, kind="stable")
    tested_R = np.arange(len(p_R), 0, -1)  # hypotheses left when the r-th smallest is tested
    stepped_R = np.maximum.accumulate(tested_R * p_R[order_R])
    return np.minimum(stepped_R, 1.0)[np.argsort(order_R)]


def benjamini_hochberg(p_R: Array) -> Array:
    """Return the p values adjusted so that comparing them with a level bounds the expected share of
    false ones among the rejections by it. Source: Benjamini and Hochberg, J. Royal Statistical
    Society B 1995; of tests that depend on each other positively, Benjamini and Yekutieli 2001.
    """
    order_R = np.argsort(p_R, kind="stable")[::-1]
    rank_R = np.arange(len(p_R), 0, -1)
    stepped_R = np.minimum.accumulate(p_R[order_R] * len(p_R) / rank_R)
    return np.minimum(stepped_R, 1.0)[np.argsort(order_R)]


def _blocks(draws: int, queries: int) -> Iterator[int]:
    """How many draws of `queries` numbers each to make at a time; they add up to `draws`."""
    most = max(1, min(_DRAWS_PER_BLOCK, _NUMBERS_PER_BLOCK // queries))
    for start in range(0, draws, most):
        yield min(most, draws - start)


def _slices(rows: NDArray, each: int) -> Iterator[NDArray]:
    """The rows, as many at a time as make a block of `each` numbers a row."""
    most = max(1, _NUMBERS_PER_BLOCK // max(1, each))
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


def _less(values_S: Array, pairs_R2: Rows) -> Array:
    """The first less the second system (last dimension) of every pair."""
    return values_S[..., pairs_R2[:, 0]] - values_S[..., pairs_R2[:, 1]]


def _squares(scores_SQ: Array, pairs_R2: Rows) -> Array:
    """Sums over the queries of the squared differences of every pair."""
    some = _slices(pairs_R2, scores_SQ.shape[1])
    sums = [(_less(scores_SQ.T, some_R2) ** 2).sum(axis=0) for some_R2 in some]
    return np.concatenate([np.empty(0), *sums])


def _norms(scores_SQ: Array, pairs_R2: Rows) -> Array:
    """Their roots; infinite for two systems that differ nowhere, whose statistic is then 0."""
    norm_R = np.sqrt(_squares(scores_SQ, pairs_R2))
    return np.where(norm_R > 0, norm_R, np.inf)
