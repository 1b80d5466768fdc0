"""The best size of one budget, and what keeps it from being believed."""

import numpy as np
import pytest

from lion_sweep.evaluation.isoflop import profile
from lion_sweep.evaluation.laws import Numbers, Points

SIZES = np.array([6e7, 1.2e8, 2.5e8, 5e8, 1e9])


def points(loss_P: Numbers, noise: float = 0.0, queries: int = 1) -> Points:
    rng = np.random.default_rng(0)
    losses = [loss + rng.normal(0, noise, (1, queries)) for loss in loss_P]
    return Points({"N": SIZES}, losses)


def bowl(best: float, depth: float = 0.2) -> Numbers:
    return 1.0 + depth * np.log(SIZES / best) ** 2


def test_the_minimum_of_a_parabola_is_found() -> None:
    found = profile(points(bowl(3e8)))
    assert found.best == pytest.approx(3e8, rel=1e-6)
    assert found.interval is None and found.edge == ""
    assert found.least == 2.5e8
    np.testing.assert_allclose(found.residuals, 0, atol=1e-9)


def test_points_in_any_order_are_one_profile() -> None:
    order = np.array([3, 0, 4, 1, 2])
    losses = [np.array([[loss]]) for loss in bowl(3e8)[order]]
    found = profile(Points({"N": SIZES[order]}, losses))
    assert found.size_P == tuple(SIZES) and found.best == pytest.approx(3e8, rel=1e-6)


def test_its_interval_holds_the_true_minimum_as_often_as_it_says() -> None:
    held = 0
    for draw in range(100):
        rng = np.random.default_rng(draw)
        losses = [loss + rng.normal(0, 0.3, (1, 100)) for loss in bowl(3e8)]
        low, high = profile(Points({"N": SIZES}, losses), 100).interval or (0, 0)
        held += low <= 3e8 <= high
    assert held >= 85


@pytest.mark.parametrize(
    ("loss_P", "edge", "inside"),
    [
        (bowl(2e7), "at the edge: no size here is better than the smallest", False),
        (bowl(9e9), "at the edge: no size here is better than the largest", False),
        (-bowl(5e8), "at the edge: no size here is better than the smallest", False),
        (-bowl(1.2e8), "at the edge: no size here is better than the largest", False),
        (bowl(8.5e8), "near the edge: the best size here is the last on its side", True),
    ],
)
def test_a_minimum_at_the_edge_is_told(loss_P: Numbers, edge: str, inside: bool) -> None:
    found = profile(points(loss_P))
    assert found.edge == edge
    assert (found.best is not None) == inside


def test_an_interval_that_reaches_the_edge_is_told() -> None:
    found = profile(points(bowl(3e8, 0.01), noise=0.5, queries=50))
    assert found.interval is not None
    low, high = found.interval
    assert low >= SIZES[0] * 0.999 and high <= SIZES[-1] * 1.001
    assert found.edge


def test_four_sizes_are_no_parabola() -> None:
    losses = [np.ones((1, 1))] * 4
    found = profile(Points({"N": SIZES[:4]}, losses))
    assert found.refused == "4 sizes, no parabola: it takes 5"
    assert found.best is None and found.loss_P == (1.0,) * 4
