"""Scaling laws: parameters of made-up laws are found in their intervals, or nothing is said."""

from collections.abc import Sequence

import numpy as np
import pytest

from lion_sweep.evaluation.laws import (
    COMPUTE,
    ENTROPY,
    JOINT,
    SIZE,
    Inputs,
    Law,
    Numbers,
    Points,
    curve,
    fit,
    held_out,
    interval,
)

SIZES = np.geomspace(1e7, 1e9, 6)
BUDGETS = np.geomspace(1e18, 1e21, 4)
DRAWS = 100


def grid() -> Inputs:
    """Six sizes at four budgets."""
    size_P, flops_P = (axis.ravel() for axis in np.meshgrid(SIZES, BUDGETS))
    return {"N": size_P, "C": flops_P, "D": flops_P / (600 * size_P)}


GRID = grid()
LINE = {"N": SIZES}
FRONTIER = {"N": SIZES, "C": np.geomspace(1e18, 1e21, 6)}
TRUE: dict[str, tuple[Law, Inputs, dict[str, float], Numbers]] = {
    "size": (SIZE, LINE, {"E": 0.5, "A": 300.0, "a": 0.3}, 0.5 + 300.0 * SIZES**-0.3),
    "compute": (
        COMPUTE, FRONTIER, {"E": 0.5, "A": 8e3, "c": 0.2}, 0.5 + 8e3 * FRONTIER["C"] ** -0.2
    ),
    "joint": (
        JOINT,
        GRID,
        {"E": 0.3, "A": 600.0, "a": 0.34, "B": 160.0, "b": 0.28},
        0.3 + 600.0 * GRID["N"] ** -0.34 + 160.0 * GRID["D"] ** -0.28,
    ),
    "entropy": (
        ENTROPY,
        GRID,
        {"A": 3e7, "B": 2e8, "a": 0.55, "b": 1.3, "d": 0.2},
        ((3e7 / GRID["N"]) ** (0.55 / 1.3) + 2e8 / GRID["D"]) ** 1.3 + 0.2,
    ),
}  # fmt: skip


def exact(inputs: Inputs, loss_P: Numbers) -> Points:
    """Losses of which only means are known."""
    return Points(inputs, [np.array([[loss]]) for loss in loss_P])


def noisy(
    inputs: Inputs, loss_P: Numbers, draw: int, seeds: Sequence[int] = (1,), between: float = 0.0
) -> Points:
    """200 queries, harder and easier ones; so many seeds a point, apart by `between`."""
    rng = np.random.default_rng(draw)
    query_Q = rng.normal(0, 0.5, 200)
    losses = [
        loss
        + query_Q
        - query_Q.mean()
        + rng.normal(0, 0.3, (count, 200))
        + rng.normal(0, between, (count, 1))
        for loss, count in zip(loss_P, np.resize(seeds, len(loss_P)).tolist(), strict=True)
    ]
    return Points(inputs, losses)


@pytest.mark.parametrize("name", TRUE)
def test_an_exact_law_is_found_exactly_whatever_its_units(name: str) -> None:
    law, inputs, true, loss_P = TRUE[name]
    found = curve(law, inputs, loss_P)
    np.testing.assert_allclose(found.at(inputs), loss_P, rtol=1e-4)
    assert found.parameters == pytest.approx(true, rel=2e-2)
    assert found.edges == []


@pytest.mark.parametrize(
    ("name", "draws", "samples"),
    [("size", DRAWS, 40), ("compute", DRAWS, 40), ("joint", DRAWS, 30), ("entropy", DRAWS, 20)],
)
def test_intervals_hold_the_true_exponents_as_often_as_they_say(
    name: str, draws: int, samples: int
) -> None:
    """95 % of the draws, less what a hundred draws and so few samples may be off by."""
    law, inputs, true, loss_P = TRUE[name]
    budgets = None if law is SIZE else 6
    exponents = [one for one in law.parameters if one in "abc"]
    held = dict.fromkeys(exponents, 0)
    for draw in range(draws):
        found = fit(law, noisy(inputs, loss_P, draw), budgets, samples)
        for one in exponents:
            low, high = found.intervals[one] or (np.nan, np.nan)
            held[one] += low <= true[one] <= high
    assert min(held.values()) >= 0.85 * draws, held
    assert max(held.values()) > 0


def test_intervals_speak_of_other_seeds_where_there_are_several() -> None:
    """Few seeds that lie apart, two at some points and four at others."""
    law, inputs, true, loss_P = TRUE["size"]
    held = 0
    for draw in range(DRAWS):
        found = fit(law, noisy(inputs, loss_P, draw, (2, 4), between=0.05), None, 40)
        low, high = found.intervals["a"] or (np.nan, np.nan)
        held += low <= true["a"] <= high
    assert held >= 0.85 * DRAWS


def test_samples_of_seeds_spread_as_means_of_seeds_do() -> None:
    """Without queries that differ, the variance of a mean of S seeds is theirs over S."""
    seeds_S = np.array([0.1, 0.4, 0.2])
    points = Points({"N": SIZES[:1]}, [np.repeat(seeds_S[:, None], 5, axis=1)])
    drawn_B = points.samples_BP(20_000)[:, 0]
    assert drawn_B.mean() == pytest.approx(seeds_S.mean(), abs=0.003)
    assert drawn_B.var() == pytest.approx(seeds_S.var(ddof=1) / 3, rel=0.05)


def test_all_points_have_the_same_queries_in_a_sample() -> None:
    query_Q = np.random.default_rng(0).normal(0, 9, 50)
    points = Points(LINE, [(query_Q + loss)[None] for loss in SIZES / 1e9])
    apart_B = np.diff(points.samples_BP(20), axis=1)
    np.testing.assert_allclose(apart_B, np.diff(SIZES / 1e9)[None].repeat(20, axis=0), atol=1e-9)


@pytest.mark.parametrize(
    ("law", "kept", "budgets", "said"),
    [
        (SIZE, 3, None, "3 points, no law: it takes 4 sizes or more, here 3; 5 points for 3"),
        (SIZE, 4, None, "4 points, no law: it takes 5 points for 3 parameters"),
        (COMPUTE, 3, 3, "3 points, no law: it takes 5 points for 3 parameters"),
        (COMPUTE, 2, 2, "2 points, no law: it takes 3 budgets or more, here 2; 5 points for 3"),
        (JOINT, 6, 1, "6 points, no law: it takes 3 budgets or more, here 1; 7 points for 5"),
        (ENTROPY, 12, 2, "12 points, no law: it takes 3 budgets or more, here 2"),
    ],
)
def test_too_few_points_are_no_law(law: Law, kept: int, budgets: int | None, said: str) -> None:
    inputs = {letter: values[:kept] for letter, values in GRID.items()}
    found = fit(law, exact(inputs, np.ones(kept)), budgets)
    assert found.refused.startswith(said)
    assert not found.parameters and not found.residuals and found.held_out is None


def test_the_largest_is_foreseen_by_the_others() -> None:
    law, inputs, _, loss_P = TRUE["size"]
    assert held_out(law, exact(inputs, loss_P)) == pytest.approx((0, 0), abs=1e-6)
    loss_P = loss_P + np.where(inputs["N"] == SIZES[-1], 0.07, 0)
    assert held_out(law, exact(inputs, loss_P)) == pytest.approx((0.07, 0.07), abs=1e-6)
    law, inputs, _, loss_P = TRUE["joint"]  # all budgets of the largest size
    apart_P = np.where(inputs["N"] == SIZES[-1], np.where(inputs["C"] > 1e20, -0.02, 0.04), 0)
    found = held_out(law, exact(inputs, loss_P + apart_P))
    assert found == pytest.approx(((3 * 0.04 + 0.02) / 4, (3 * 0.04 - 0.02) / 4), abs=1e-3)


def test_residuals_are_loss_less_law() -> None:
    law, inputs, _, loss_P = TRUE["size"]
    found = fit(law, noisy(inputs, loss_P, 0), samples=20)
    values = {name: value or 0.0 for name, value in found.parameters.items()}
    by_hand = values["E"] + values["A"] * SIZES ** -values["a"]
    expected = noisy(inputs, loss_P, 0).loss_P - by_hand
    np.testing.assert_allclose(found.residuals, expected, atol=1e-9)
    assert found.rmse == pytest.approx(np.sqrt(np.mean(expected**2)))


def test_a_loss_that_does_not_fall_has_no_exponent() -> None:
    found = fit(SIZE, exact(LINE, np.linspace(1.0, 2.0, 6)))
    assert found.parameters == {"E": pytest.approx(1.5), "A": 0.0, "a": None}
    assert found.untold == ("a",) and not found.edges
    assert found.intervals == {"E": None, "A": None, "a": None}  # of means alone


def test_an_exponent_at_the_edge_is_told() -> None:
    found = fit(SIZE, exact(LINE, np.array([2.0, 1, 1, 1, 1, 1])))
    assert found.edges == ("a",) and not found.untold


def test_an_interval_needs_most_samples() -> None:
    known = np.arange(100.0)
    assert interval(known) == pytest.approx((2.475, 96.525))
    known[:11] = np.nan
    assert interval(known) is None
