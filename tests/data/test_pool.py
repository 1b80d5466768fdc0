"""The fixed candidates of every judged query."""

import numpy as np
import pytest
from support import texts

from lion_sweep.data.collection import Judged, Qrels
from lion_sweep.data.pool import pool

QRELS: Qrels = {"q2": {"d3": 1, "d5": 0, "d9": 2}, "q0": {"gone": 1}, "q1": {"d0": 1, "gone": 1}}


def judged(qrels: Qrels, documents: int) -> Judged:
    held = texts({f"d{number}": "" for number in range(documents)})
    return Judged.of(qrels, held, texts({f"q{number}": "" for number in range(9)}), {})


def test_candidates_are_distinct_and_none_is_relevant() -> None:
    found = pool(judged(QRELS, 40), 40, candidates=30)
    # q0 has no relevant passage that is there; d5 is judged, and not relevant.
    assert found.query_Q.tolist() == [2, 1]
    assert found.asked_P.tolist() == [0, 0, 1] and found.relevant_P.tolist() == [3, 9, 0]
    assert found.candidate_QC.shape == (2, 30) and found.candidates == 30
    for row, relevant in zip(found.candidate_QC.tolist(), ([3, 9], [0]), strict=True):
        assert len(set(row)) == 30 and not set(row) & set(relevant)
        assert min(row) >= 0 and max(row) < 40


def test_small_collections_have_as_many_for_every_query() -> None:
    found = pool(judged(QRELS, 12), 12)
    assert found.candidate_QC.shape == (2, 10)  # q2 has two relevant passages of twelve
    assert set(found.candidate_QC[0].tolist()) == set(range(12)) - {3, 9}


def test_it_follows_from_judgements_and_number_of_passages() -> None:
    one, again = (pool(judged(QRELS, 3000), 3000) for _ in range(2))
    np.testing.assert_array_equal(one.candidate_QC, again.candidate_QC)
    assert one.candidates == 256
    assert (one.candidate_QC != pool(judged(QRELS, 3001), 3001).candidate_QC).any()


def test_every_passage_is_drawn_as_often() -> None:
    many = {f"q{number % 9}": {f"d{number % 9}": 1} for number in range(9)}
    held = judged(many, 50)
    drawn = np.bincount(pool(held, 50, candidates=25).candidate_QC.ravel(), minlength=50)
    assert drawn.sum() == 9 * 25 and drawn[9:].min() > 0


def test_judgements_that_lie_apart_belong_to_one_query() -> None:
    held = judged({"q1": {"d0": 1}, "q3": {"d1": 1}}, 9)
    column = held.column

    class Shuffled:
        def column(self, name: str) -> np.ndarray:
            return np.concatenate(
                [column(name), column(name)[:1] if name != "document_row" else [5]]
            )

    found = pool(Shuffled(), 9)  # type: ignore[arg-type]
    assert found.query_Q.tolist() == [1, 3]
    assert found.asked_P.tolist() == [0, 0, 1] and found.relevant_P.tolist() == [0, 5, 1]


@pytest.mark.parametrize(
    ("qrels", "documents"),
    [({"q0": {"gone": 1}}, 9), ({"q0": {"d0": 1}}, 1), ({"q0": {"d0": 0}}, 9)],
)
def test_a_collection_without_any_is_refused(qrels: Qrels, documents: int) -> None:
    with pytest.raises(ValueError, match="no query has both"):
        pool(judged(qrels, documents), documents)
