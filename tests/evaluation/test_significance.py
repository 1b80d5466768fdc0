"""The randomisation test against exact enumeration, and its invariances."""

from itertools import product

import numpy as np
import pytest

from lion_sweep.evaluation.significance import paired_randomisation


def two_systems(seed: int, queries: int, gap: float) -> tuple[dict[str, float], dict[str, float]]:
    generator = np.random.default_rng(seed)
    names = [f"q{number}" for number in range(queries)]
    a, b = generator.random(queries), generator.random(queries) + gap
    return dict(zip(names, a.tolist(), strict=True)), dict(zip(names, b.tolist(), strict=True))


@pytest.mark.parametrize("gap", [0.0, 0.2, 0.4, 2.0])
def test_close_to_exact_enumeration(gap: float) -> None:
    a, b = two_systems(1, 10, gap)
    difference = np.array([a[query_id] - b[query_id] for query_id in a])
    flipped = np.array(list(product([-1.0, 1.0], repeat=10))) @ difference
    exact = float(np.mean(np.abs(flipped) >= abs(difference.sum()) - 1e-12))
    # Five standard errors of a share estimated from 20,000 draws, at its largest.
    assert paired_randomisation(a, b, permutations=20_000) == pytest.approx(exact, abs=0.018)


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


def test_seeded_and_independent_of_order() -> None:
    a, b = two_systems(4, 40, 0.1)
    p = paired_randomisation(a, b, seed=5)
    assert p == paired_randomisation(a, dict(reversed(b.items())), seed=5)
    assert p == paired_randomisation(dict(reversed(a.items())), b, seed=5)
    assert p != paired_randomisation(a, b, seed=6)


def test_never_zero() -> None:
    a, b = two_systems(5, 200, 10.0)
    assert paired_randomisation(a, b, permutations=99) == 0.01


def test_different_queries() -> None:
    with pytest.raises(
        ValueError, match=r"2 queries are in one system only, among them \['x', 'y'"
    ):
        paired_randomisation({"q": 1.0, "x": 0.0}, {"q": 1.0, "y": 0.0})


@pytest.mark.parametrize(
    ("a", "b", "permutations", "message"),
    [
        ({}, {}, 10, "at least one query"),
        ({"q": 1.0}, {"q": 0.0}, 0, "permutations"),
        ({"q": float("nan")}, {"q": 0.0}, 10, "not finite"),
    ],
)
def test_bad_input(a: dict, b: dict, permutations: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_randomisation(a, b, permutations)
