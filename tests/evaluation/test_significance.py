"""Randomisation tests, intervals and Holm's correction against independent computations."""

import json
import os
import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest, norm

from lion_sweep.evaluation.significance import (
    align,
    bootstrap_intervals,
    holm,
    paired_randomisation,
    randomisation_test,
)


def random_scores(seed: int, systems: int, queries: int, gap: float = 0.0) -> np.ndarray:
    """Systems whose true means lie `gap` apart."""
    generator = np.random.default_rng(seed)
    return generator.random((systems, queries)) + gap * np.arange(systems)[:, None]


def named(scores_Q: np.ndarray) -> dict[str, float]:
    return {f"q{number:04}": float(value) for number, value in enumerate(scores_Q)}


def two_systems(seed: int, queries: int, gap: float) -> tuple[dict[str, float], dict[str, float]]:
    a_Q, b_Q = random_scores(seed, 2, queries, gap)
    return named(a_Q), named(b_Q)


@pytest.mark.parametrize("gap", [0.0, 0.1, 0.3, 2.0])
def test_every_pair_is_close_to_exact_enumeration(gap: float) -> None:
    scores_SQ = random_scores(1, 4, 10, gap)
    draws = 20_000
    p_R = randomisation_test(scores_SQ, draws)
    signs_PQ = np.array(list(product([-1.0, 1.0], repeat=10)))
    for (a_Q, b_Q), p in zip(combinations(scores_SQ, 2), p_R, strict=True):
        difference_Q = a_Q - b_Q
        flipped_P = np.abs(signs_PQ @ difference_Q)
        exact = float(np.mean(flipped_P >= abs(difference_Q.sum()) - 1e-12))
        # Five standard errors of the estimated share, and what counting the observed signs adds.
        error = 5 * np.sqrt(exact * (1 - exact) / draws) + 1 / draws
        assert p == pytest.approx(exact, abs=error)


def test_a_pair_has_the_same_p_and_interval_whatever_systems_stand_beside_it() -> None:
    scores_SQ = random_scores(2, 5, 300, 0.01)
    p_R, (means_S2, differences_R2) = randomisation_test(scores_SQ), bootstrap_intervals(scores_SQ)
    for pair, (i, j) in enumerate(combinations(range(5), 2)):
        a, b = named(scores_SQ[i]), named(scores_SQ[j])
        assert p_R[pair] == paired_randomisation(a, b)
        alone_S2, alone_R2 = bootstrap_intervals(align({"b": b, "a": a}))
        assert alone_S2 == pytest.approx(means_S2[[j, i]])
        assert alone_R2[0] == pytest.approx(-differences_R2[pair, ::-1])


def test_two_sided() -> None:
    a, b = two_systems(2, 30, 0.2)
    assert paired_randomisation(a, b) == paired_randomisation(b, a)


def test_identical_systems() -> None:
    a, _ = two_systems(3, 20, 0.0)
    assert paired_randomisation(a, dict(a)) == 1.0


def test_sums_equal_up_to_rounding_count_as_extreme() -> None:
    # All differences are 0.1: half of the flips of two queries reach the observed sum.
    a = {"q1": 0.1 + 0.2, "q2": 0.7}
    b = {"q1": 0.2, "q2": 0.6}
    assert paired_randomisation(a, b) == pytest.approx(0.5, abs=0.03)


def test_a_constant_added_to_all_systems_changes_no_p() -> None:
    # Reciprocal ranks have many equal sums, which rounding must not tell apart.
    ranks_SQ = np.random.default_rng(6).integers(1, 11, size=(4, 60))
    scores_SQ = 1 / ranks_SQ
    p_R = randomisation_test(scores_SQ)
    assert randomisation_test(scores_SQ + 3.7).tolist() == p_R.tolist()
    assert len(set(p_R)) > 1


def test_seeded_and_independent_of_the_order_of_queries() -> None:
    a, b = two_systems(4, 40, 0.1)
    p = paired_randomisation(a, b, seed=5)
    assert p == paired_randomisation(a, dict(reversed(b.items())), seed=5)
    assert p == paired_randomisation(dict(reversed(a.items())), b, seed=5)
    assert p != paired_randomisation(a, b, seed=6)
    scores_SQ = align({"a": a, "b": b})
    first, again, other = (bootstrap_intervals(scores_SQ, seed=seed)[1] for seed in (5, 5, 6))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_equal_in_another_process() -> None:
    program = (
        "import json, numpy as np\n"
        "from lion_sweep.evaluation.significance import *\n"
        "scores_SQ = np.random.default_rng(7).random((3, 5000))\n"
        "p_R = randomisation_test(scores_SQ, 2000)\n"
        "print(json.dumps([p_R.tolist(), bootstrap_intervals(scores_SQ, 500)[1].tolist()]))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    p_R, differences_R2 = json.loads(found.stdout)
    scores_SQ = np.random.default_rng(7).random((3, 5000))
    assert randomisation_test(scores_SQ, 2000).tolist() == p_R
    # Products of matrices may round differently with another number of threads.
    assert bootstrap_intervals(scores_SQ, 500)[1] == pytest.approx(np.array(differences_R2))


def test_p_is_uniform_under_the_null_hypothesis() -> None:
    p = [
        randomisation_test(random_scores(seed, 2, 40), permutations=499, seed=seed)[0]
        for seed in range(1000)
    ]
    assert kstest(p, "uniform").pvalue > 0.01
    # Five standard errors of a share of 1,000.
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=5 * np.sqrt(0.05 * 0.95 / 1000))


def test_never_zero() -> None:
    a, b = two_systems(5, 200, 10.0)
    assert paired_randomisation(a, b, permutations=99) == 0.01


def test_one_query_decides_nothing() -> None:
    scores_SQ = np.array([[0.9], [0.1]])
    assert randomisation_test(scores_SQ).tolist() == [1.0]
    with pytest.raises(ValueError, match="at least two queries"):
        bootstrap_intervals(scores_SQ)


def test_one_system_has_an_interval_and_no_pairs() -> None:
    scores_SQ = random_scores(8, 1, 50)
    means_S2, differences_R2 = bootstrap_intervals(scores_SQ)
    assert means_S2.shape == (1, 2)
    assert differences_R2.shape == (0, 2)
    assert holm(randomisation_test(scores_SQ)).shape == (0,)


def test_intervals_of_three_queries_are_those_of_all_27_samples() -> None:
    # Of the 27 equally likely means, 0 comes once and 1/3 thrice at the lower end, 10 once and 7
    # thrice at the upper: shares of .037 and .148 around the 5 % that a 90 % interval cuts off.
    scores_SQ = np.array([[0.0, 1.0, 10.0], [0.0, 0.0, 0.0]])
    (first_2, zero_2), [difference_2] = bootstrap_intervals(scores_SQ, level=0.9)
    assert first_2 == pytest.approx([1 / 3, 7])
    assert difference_2 == pytest.approx([1 / 3, 7])
    assert zero_2.tolist() == [0, 0]
    assert bootstrap_intervals(scores_SQ)[0][0] == pytest.approx([0, 10])


def test_intervals_of_many_queries_are_those_of_the_normal_distribution() -> None:
    scores_SQ = random_scores(9, 2, 2000, 0.1)
    half_2 = norm.ppf(0.975) * np.array([-1, 1])
    means_S2, [difference_2] = bootstrap_intervals(scores_SQ)
    difference_Q = scores_SQ[0] - scores_SQ[1]
    for values_Q, ends_2 in zip([*scores_SQ, difference_Q], [*means_S2, difference_2], strict=True):
        error = values_Q.std() / np.sqrt(2000)
        # The 2.5 % quantile of 10,000 samples has a standard error of .027 of theirs.
        assert ends_2 == pytest.approx(values_Q.mean() + half_2 * error, abs=5 * 0.027 * error)


def test_intervals_cover_the_truth() -> None:
    covered = []
    for seed in range(400):
        skewed_SQ = np.random.default_rng(seed).beta(0.5, 1.5, size=(2, 100))
        means_S2, differences_R2 = bootstrap_intervals(skewed_SQ, samples=1000, seed=seed)
        truth = np.array([0.25, 0.25, 0.0])
        low, high = np.concatenate([means_S2, differences_R2]).T
        covered.append((low <= truth) & (truth <= high))
    # Percentile intervals of skewed values cover a little less than they say.
    assert np.mean(covered, axis=0) == pytest.approx(0.95, abs=0.03)


def test_holm_by_hand() -> None:
    # Sorted and times 4, 3, 2, 1: .02, .03, .06, .04; the last may not fall below the one before.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.9, 0.5])).tolist() == [1.0, 1.0, 1.0]
    assert holm(np.array([0.02])).tolist() == [0.02]


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_holm_rejects_what_stepping_down_rejects(level: float) -> None:
    p_R = np.round(np.random.default_rng(10).random(40) ** 8, 6)
    rejected = set()
    for step, pair in enumerate(sorted(range(40), key=lambda pair: p_R[pair])):
        if p_R[pair] > level / (40 - step):
            break
        rejected.add(pair)
    assert set(np.flatnonzero(holm(p_R) <= level).tolist()) == rejected
    assert 0 < len(rejected) < 40


def test_different_queries() -> None:
    with pytest.raises(
        ValueError, match=r"2 queries are only in one of the systems 'a' and 'b', .*\['x', 'y'\]"
    ):
        paired_randomisation({"q": 1.0, "x": 0.0}, {"q": 1.0, "y": 0.0})


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [({}, {}, "at least one query"), ({"q": float("nan")}, {"q": 0.0}, "not finite")],
)
def test_bad_input(a: dict, b: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_randomisation(a, b)


def test_no_system() -> None:
    with pytest.raises(ValueError, match="no system"):
        align({})
