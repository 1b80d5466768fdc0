"""From entropy to a measure: the form that foresees better, and by how much it misses."""

import numpy as np
import pytest

from lion_sweep.evaluation.forecast import forecast

SIZES = np.repeat(np.array([1e7, 3e7, 1e8, 3e8, 1e9]), 3)
ENTROPY = np.linspace(3.0, 0.5, 15)


def test_a_line_is_found() -> None:
    found = forecast(ENTROPY, 0.8 - 0.2 * ENTROPY, SIZES)
    assert found.form == "line"
    assert found.parameters == {"p": pytest.approx(0.8), "q": pytest.approx(0.2)}
    assert found.held_out["line"] == pytest.approx(0, abs=1e-9)
    assert found.held_out["sigmoid"] > 1e-3


def test_a_sigmoid_is_found() -> None:
    score_P = 0.6 / (1 + np.exp((ENTROPY - 1.5) / 0.3))
    found = forecast(ENTROPY, score_P, SIZES)
    assert found.form == "sigmoid"
    assert found.parameters == pytest.approx({"t": 0.6, "m": 1.5, "w": 0.3}, rel=1e-2)
    assert found.held_out["sigmoid"] < 1e-4 < found.held_out["line"]
    np.testing.assert_allclose(found.residuals, 0, atol=1e-4)


def test_the_error_is_of_sizes_left_out_one_at_a_time() -> None:
    score_P = 0.8 - 0.2 * ENTROPY + np.where(SIZES == 1e9, 0.05, 0)
    missed = []
    for size in np.unique(SIZES):
        there = size != SIZES
        slope, start = np.polyfit(ENTROPY[there], score_P[there], 1)
        missed += np.abs(score_P - (start + slope * ENTROPY))[~there].tolist()
    assert forecast(ENTROPY, score_P, SIZES).held_out["line"] == pytest.approx(np.mean(missed))


def test_no_measure_is_above_one() -> None:
    found = forecast(ENTROPY, np.clip(1.4 - 0.4 * ENTROPY, 0, 1), SIZES)
    assert found.form == "sigmoid" and found.parameters["t"] <= 1


def test_with_four_points_only_a_line_is_tried() -> None:
    found = forecast(ENTROPY[::4], 0.5 - 0.1 * ENTROPY[::4], SIZES[::4])
    assert set(found.held_out) == {"line"} and found.form == "line"


def test_three_sizes_are_refused() -> None:
    found = forecast(ENTROPY[:9], ENTROPY[:9], SIZES[:9])
    assert found.refused == "9 points, no forecast: it takes 4 sizes or more, here 3"
    assert not found.form and not found.parameters
