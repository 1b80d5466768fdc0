"""Which candidates stay by a teacher's scores, and in which order, by hand.

Shapes: P training pairs, M candidates of a pair, G = 1 + M.
"""

import numpy as np

from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.stages.filtered import by_score, without_false


def test_what_scores_near_the_positive_is_dropped_by_hand() -> None:
    groups = Groups(
        query_P=np.array([4, 5, 6], np.int32),
        positive_P=np.array([0, 1, 2], np.int32),
        negative_PM=np.array([[7, 8, 9], [7, 8, MISSING], [3, MISSING, MISSING]], np.int32),
        positive_score_P=np.array([1, 2, 3], np.float32),
        negative_score_PM=np.array([[0.3, 0.2, 0.1], [0.5, 0.4, 0], [0.6, 0, 0]], np.float32),
    )
    score_PG = np.array([[2.0, 1.75, 0.5, 1.5], [1.0, 0.0, 0.5, 0.0], [1.0, 0.75, 0.0, 0.0]])
    left, dropped = without_false(groups, score_PG, 0.5)
    # 1.75 and .75 are nearer than the margin, 1.5 and .5 are just as far; the third pair has none.
    assert dropped == 2
    assert left.query_P.tolist() == [4, 5] and left.positive_P.tolist() == [0, 1]
    assert left.negative_PM.tolist() == [[8, 9, MISSING], [7, 8, MISSING]]
    np.testing.assert_array_equal(
        left.negative_score_PM, np.array([[0.2, 0.1, 0], [0.5, 0.4, 0]], np.float32)
    )
    assert left.positive_score_P.tolist() == [1, 2]


def test_candidates_stand_by_falling_score_and_equal_ones_as_they_were() -> None:
    groups = Groups(
        query_P=np.array([4], np.int32),
        positive_P=np.array([0], np.int32),
        negative_PM=np.array([[7, 8, 9, MISSING]], np.int32),
        positive_score_P=np.array([1], np.float32),
        negative_score_PM=np.array([[0.3, 0.2, 0.1, 0]], np.float32),
    )
    left, score_PG = by_score(groups, np.array([[9.0, 0.5, 2.0, 0.5, 99.0]]))
    assert left.negative_PM.tolist() == [[8, 7, 9, MISSING]]
    assert left.negative_score_PM.tolist() == groups.negative_score_PM[:, [1, 0, 2, 3]].tolist()
    assert score_PG.tolist() == [[9.0, 2.0, 0.5, 0.5, 99.0]]
    assert left.positive_score_P.tolist() == [1]
