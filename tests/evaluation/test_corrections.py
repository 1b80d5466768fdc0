"""MaxT, Benjamini and Hochberg and effect sizes against scipy and brute force."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_rel

from lion_sweep.evaluation.significance import (
    all_pairs,
    benjamini_hochberg,
    bootstrap_intervals,
    effect_sizes,
    holm,
    randomisation_test,
    randomisation_tests,
)


def scores(seed: int, systems: int, queries: int, gap: float = 0.0) -> np.ndarray:
    """Systems whose queries have difficulties in common; their true means lie `gap` apart."""
    rng = np.random.default_rng(seed)
    common_Q = rng.random(queries)
    return common_Q + rng.normal(0, 0.2, (systems, queries)) + gap * np.arange(systems)[:, None]


def stepped_down(scores_SQ: np.ndarray) -> list[float]:
    """Adjusted p of all sign flips, from Student's t of every pair and flip, one after another."""
    pairs = list(combinations(range(len(scores_SQ)), 2))
    flips = list(product([-1.0, 1.0], repeat=scores_SQ.shape[1]))

    def statistics(signs: tuple[float, ...]) -> list[float]:
        differences = [(scores_SQ[a] - scores_SQ[b]) * signs for a, b in pairs]
        return [abs(float(ttest_rel(d, np.zeros_like(d)).statistic)) for d in differences]

    observed, flipped = statistics(flips[-1]), [statistics(signs) for signs in flips]
    order = sorted(range(len(pairs)), key=lambda pair: -observed[pair])
    adjusted, before = [0.0] * len(pairs), 0.0
    for place, pair in enumerate(order):
        rest = order[place:]
        largest = [max(values[other] for other in rest) for values in flipped]
        before = max(before, float(np.mean([v >= observed[pair] - 1e-9 for v in largest])))
        adjusted[pair] = before
    return adjusted


@pytest.mark.parametrize("gap", [0.0, 0.1, 0.3])
def test_maxt_is_close_to_stepping_down_over_all_flips(gap: float) -> None:
    scores_SQ = scores(3, 4, 8, gap)
    draws = 20_000
    exact_R = np.array(stepped_down(scores_SQ))
    maxt_R = randomisation_tests(scores_SQ, draws).maxt_R
    # Five standard errors of a share, and what counting the observed signs adds.
    error_R = 5 * np.sqrt(exact_R * (1 - exact_R) / draws) + 1 / draws
    assert (np.abs(maxt_R - exact_R) <= error_R).all()
    assert len(set(np.round(exact_R, 6))) > 1


def test_maxt_is_no_smaller_than_a_test_alone_and_gains_on_holm() -> None:
    scores_SQ = scores(1, 8, 60, 0.03)
    p_R, maxt_R = randomisation_tests(scores_SQ, 20_000)
    assert (maxt_R >= p_R).all()
    # Pairs depend on each other. Where one's differences have heavier tails it may gain nothing.
    assert np.mean(maxt_R < holm(p_R)) > 0.9
    assert np.median(maxt_R / holm(p_R)) < 0.8
    assert p_R.tolist() == randomisation_test(scores_SQ, 20_000).tolist()


def test_maxt_falls_with_the_statistic_and_of_one_pair_is_its_p() -> None:
    scores_SQ = scores(4, 5, 50, 0.05)
    pairs_R2 = all_pairs(5)
    t_R = [abs(ttest_rel(scores_SQ[a], scores_SQ[b]).statistic) for a, b in pairs_R2]
    maxt_R = randomisation_tests(scores_SQ).maxt_R[np.argsort(t_R)[::-1]]
    assert (np.diff(maxt_R) >= 0).all()
    alone = randomisation_tests(scores_SQ[:2])
    assert alone.p_R.tolist() == alone.maxt_R.tolist()


def test_equal_systems_have_p_1() -> None:
    scores_SQ = scores(5, 3, 30, 0.4)
    scores_SQ[1] = scores_SQ[0]
    p_R, maxt_R = randomisation_tests(scores_SQ)
    assert (p_R[0], maxt_R[0]) == (1.0, 1.0)
    assert (maxt_R[1:] < 0.01).all()
    assert np.isnan(effect_sizes(scores_SQ)[0])


def test_maxt_keeps_the_rate_of_false_rejections() -> None:
    some = [randomisation_tests(scores(s, 5, 25), 399, s).maxt_R.min() <= 0.05 for s in range(400)]
    # Five standard errors of a share of 400.
    assert np.mean(some) == pytest.approx(0.05, abs=5 * np.sqrt(0.05 * 0.95 / 400))


def test_chosen_pairs_are_tested_like_all() -> None:
    scores_SQ = scores(6, 6, 40, 0.02)
    pairs_R2 = all_pairs(6)
    chosen = [3, 0, 11]
    assert randomisation_test(scores_SQ, pairs_R2=pairs_R2[chosen]).tolist() == (
        randomisation_test(scores_SQ)[chosen].tolist()
    )
    some_R2 = bootstrap_intervals(scores_SQ, pairs_R2=pairs_R2[chosen])[1]
    assert some_R2.tolist() == bootstrap_intervals(scores_SQ)[1][chosen].tolist()
    assert effect_sizes(scores_SQ, pairs_R2[chosen]) == pytest.approx(
        effect_sizes(scores_SQ)[chosen]
    )
    turned = randomisation_test(scores_SQ, pairs_R2=pairs_R2[chosen, ::-1])
    assert turned.tolist() == randomisation_test(scores_SQ)[chosen].tolist()


def test_memory_bounds_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    scores_SQ = scores(7, 7, 20, 0.02)
    whole = randomisation_tests(scores_SQ, 5000), bootstrap_intervals(scores_SQ, 500)[1]
    monkeypatch.setattr(
        "lion_sweep.evaluation.significance._slices", lambda rows, _: np.array_split(rows, 7)
    )
    parts = randomisation_tests(scores_SQ, 5000), bootstrap_intervals(scores_SQ, 500)[1]
    assert [part.tolist() for part in whole[0]] == [part.tolist() for part in parts[0]]
    assert whole[1] == pytest.approx(parts[1])


def test_benjamini_hochberg_is_scipys() -> None:
    rng = np.random.default_rng(8)
    for power in (1, 3, 8):
        p_R = rng.random(50) ** power
        assert benjamini_hochberg(p_R) == pytest.approx(false_discovery_control(p_R))
    assert benjamini_hochberg(np.array([0.6, 0.9, 0.5])) == pytest.approx([0.9, 0.9, 0.9])
    assert benjamini_hochberg(np.ones(0)).shape == (0,)


def test_effect_sizes_are_student_s_t_over_the_root_of_n() -> None:
    scores_SQ = scores(9, 4, 33, 0.1)
    found_R = [
        ttest_rel(scores_SQ[a], scores_SQ[b]).statistic / np.sqrt(33)
        for a, b in combinations(range(4), 2)
    ]
    assert effect_sizes(scores_SQ) == pytest.approx(np.array(found_R))
    assert np.isnan(effect_sizes(np.array([[0.1, 0.4, 0.7], [0.2, 0.5, 0.8]]))).all()
    assert np.isnan(effect_sizes(scores_SQ[:, :1])).all()
