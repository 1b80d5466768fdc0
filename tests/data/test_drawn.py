"""The pairs that steps draw: all of them, nothing else, in parts that longer courses share."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lion_sweep.data import drawn
from lion_sweep.data.batches import Sampler
from lion_sweep.data.drawn import Drawn
from lion_sweep.data.groups import Groups

PAIRS, MINED = 13, 6


def sampler(score_RG: np.ndarray | None = None) -> Sampler:
    """Of pairs p: query p, positive 20 + p, and six negatives each."""
    rows_P = np.arange(PAIRS, dtype=np.int32)
    negative_PM = 100 + MINED * rows_P[:, None] + np.arange(MINED, dtype=np.int32)
    own_PM = negative_PM.astype(np.float32)
    groups = Groups(rows_P, 20 + rows_P, negative_PM, rows_P.astype(np.float32), own_PM)
    return Sampler(groups, 4, 2, seed=1, score_RG=score_RG)


@pytest.mark.parametrize("steps", [1, 3, 7, 20])
def test_all_steps_as_one(steps: int) -> None:
    whole, one_by_one = sampler().first(steps), [sampler().step(n) for n in range(steps)]
    for name in ("query_B", "passage_BG", "teacher_BG"):
        expected = np.concatenate([getattr(step, name) for step in one_by_one])
        np.testing.assert_array_equal(getattr(whole, name), expected)


def test_a_step_has_the_scores_that_were_given_for_it() -> None:
    """However they are asked for; queries and passages are as without."""
    scores = np.arange(5 * 4 * 3, dtype=np.float32).reshape(20, 3)
    given_scores = sampler(scores)
    for number in (4, 0, 3):
        step, plain = given_scores.step(number), sampler().step(number)
        np.testing.assert_array_equal(step.teacher_BG, scores[4 * number : 4 * number + 4])
        np.testing.assert_array_equal(step.passage_BG, plain.passage_BG)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 100), st.integers(1, 8))
def test_parts_of_a_longer_course_begin_with_those_of_a_shorter(
    steps: int, more: int, first: int, factor: int
) -> None:
    sizes = SimpleNamespace(FIRST=first, LARGEST=first * factor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn, "FIRST", sizes.FIRST)
        patch.setattr(drawn, "LARGEST", sizes.LARGEST)
        short, long = Drawn(sampler(), steps), Drawn(sampler(), steps + more)
        for name in ("queries", "passages"):
            own, theirs = getattr(short, name), getattr(long, name)
            assert all(np.array_equal(*pair) for pair in zip(own, theirs, strict=False))
            assert len(own) <= len(theirs)
    assert steps <= short.steps
    # No part but the last reaches beyond the course; and none is more than the largest allowed.
    largest = max(1, sizes.LARGEST // 12)
    assert short.steps - steps < largest
    rows = np.concatenate(short.passages)
    assert len(np.unique(rows)) == len(rows)  # each is new where it is
    np.testing.assert_array_equal(np.sort(rows), np.unique(short.step.passage_BG))
    assert all((np.diff(part) > 0).all() for part in short.passages)
    np.testing.assert_array_equal(
        np.sort(np.concatenate(short.queries)), np.unique(short.step.query_B)
    )


def test_parts_double_up_to_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve pairs a step: one step, two, four, and four again; a part has one step at least."""
    monkeypatch.setattr(drawn, "FIRST", 12)
    monkeypatch.setattr(drawn, "LARGEST", 48)
    assert [Drawn(sampler(), steps).steps for steps in (1, 2, 3, 4, 7, 8, 11, 12)] == [
        1, 3, 3, 7, 7, 11, 11, 15,
    ]  # fmt: skip
    monkeypatch.setattr(drawn, "FIRST", 1)
    monkeypatch.setattr(drawn, "LARGEST", 1)
    assert Drawn(sampler(), 5).steps == 5
