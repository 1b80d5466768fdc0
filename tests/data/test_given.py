"""Training groups in every published form come to the same groups."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import texts, texts_in

from lion_sweep.data import given
from lion_sweep.data.batches import Sampler
from lion_sweep.data.collection import Collection
from lion_sweep.data.drawn import Drawn
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.data.places import Folder
from lion_sweep.errors import UserError
from lion_sweep.machine.progress import Progress
from lion_sweep.stages.scorers import Own
from lion_sweep.stages.workshop import Workshop

DOCUMENTS = {str(number): f"text {number}" for number in range(10, 16)}
COLLECTION = Collection("tiny", texts(DOCUMENTS), texts({"7": "what is it", "8": "who"}), {})
SHOP = Workshop(Path(), Progress("cell", None))
FORMS = Path(os.environ.get("LION_SWEEP_TEST_DATA", "nowhere")) / "training-formats"


def read(*records: Any, depth: int = 2) -> Groups:
    """The groups of these lines."""
    lines = [(f"file:{number}", json.dumps(record)) for number, record in enumerate(records, 1)]
    return given.read(lines, COLLECTION, depth)[0]


WITH_SCORES = [
    {
        "question": "what is it",
        "pos_pid": "12",
        "neg_pids": ["10", 15, "11"],
        "pos_score": 3.5,
        "neg_scores": [2, 1.5, 0],
    },
    {"query": "what is it", "docids": ["12", "10", "15", "11"], "scores": [3.5, 2, 1.5, 0]},
    {"query_id": 7, "document_ids": [12, 10, 15, 11], "scores": [3.5, 2, 1.5, 0]},
    {
        "query_id": "7",
        "query": "what is it",
        "positive_passages": [{"docid": "12", "text": "", "score": 3.5}],
        "negative_passages": [
            {"docid": "10", "text": "", "score": 2},
            {"docid": "15", "text": "", "score": 1.5},
        ],
    },
]
WITHOUT = [
    {"question": "what is it", "pos_pid": "12", "neg_pids": ["10", "15"]},
    {"qid": 7, "pos": [12], "neg": {"bm25": [10], "other": [10, 15, 11]}},
    {
        "query_id": "7",
        "positive_passages": [{"docid": "12"}],
        "negative_passages": [{"docid": "10"}, {"docid": "15"}],
    },
]


@pytest.mark.parametrize("record", WITH_SCORES + WITHOUT)
def test_every_form_gives_the_same_group(record: dict[str, Any]) -> None:
    groups = read(record)
    drawn = Drawn(Sampler(groups, 1, 2, seed=0), steps=1)
    assert groups.query_P.tolist() == [0]
    assert groups.positive_P.tolist() == [2]
    assert groups.negative_PM.tolist() == [[0, 5]]
    if record in WITH_SCORES:
        assert groups.positive_score_P.tolist() == [3.5]
        assert groups.negative_score_PM.tolist() == [[2, 1.5]]
        scores_RG = Own().scores(drawn, SHOP)
        found = zip(drawn.step.passage_BG.ravel(), scores_RG.ravel(), strict=True)
        assert set(found) == {(2, 3.5), (0, 2), (5, 1.5)}
    else:
        with pytest.raises(UserError, match=r"data\.groups has no scores"):
            Own().scores(drawn, SHOP)


def test_scores_in_rising_order_stay_with_their_documents() -> None:
    """Order says which negatives are taken, and which document is relevant; scores never do."""
    pylate = {"query_id": 7, "document_ids": [12, 10, 15, 11], "scores": [0.5, 1, 1.5, 2]}
    lion = {
        "question": "who",
        "pos_pid": 13,
        "neg_pids": [14, 11, 10],
        "pos_score": -2,
        "neg_scores": [-1.5, 0, 4],
    }
    groups = read(pylate, lion)
    assert groups.positive_P.tolist() == [2, 3]
    assert groups.positive_score_P.tolist() == [0.5, -2]
    assert groups.negative_PM.tolist() == [[0, 5], [4, 1]]
    assert groups.negative_score_PM.tolist() == [[1, 1.5], [-1.5, 0]]


def test_every_line_names_its_query_in_its_own_way() -> None:
    """Lines that name queries by text, among others that name them by id, which may be a text."""
    confusing = Collection("tiny", texts(DOCUMENTS), texts({"7": "8", "8": "7", "9": "who"}), {})
    records = [
        {"qid": 8, "pos": [12], "neg": {"bm25": [10]}},
        {"question": "8", "pos_pid": 12, "neg_pids": [10]},
        {"qid": 7, "pos": [12], "neg": {"bm25": [10]}},
        {"question": " who ", "pos_pid": 12, "neg_pids": [10]},
    ]
    lines = [(f"file:{number}", json.dumps(record)) for number, record in enumerate(records)]
    assert given.read(lines, confusing, 1)[0].query_P.tolist() == [1, 0, 0, 2]
    with pytest.raises(UserError, match=r"^file:1 names a query that .*, 'who', .* 1 of 2 times"):
        read({"qid": "who", "pos": [12], "neg": {"bm25": [10]}}, WITHOUT[0])
    with pytest.raises(UserError, match=r"^file:1 names a query that .*, '7', .* 1 of 2 times"):
        read({"question": "7", "pos_pid": 12, "neg_pids": [10]}, WITHOUT[1])


def test_one_group_per_positive_and_places_left_over(tmp_path: Path) -> None:
    several = {"qid": 8, "pos": [10, 11], "neg": {"bm25": [12]}}
    groups = read(several, WITHOUT[2], depth=3)
    assert groups.query_P.tolist() == [1, 1, 0]
    assert groups.positive_P.tolist() == [0, 1, 2]
    assert groups.negative_PM.tolist() == [[2, MISSING, MISSING]] * 2 + [[0, 5, MISSING]]
    groups.save(tmp_path / "groups")
    assert np.isnan(Groups.load(tmp_path / "groups").positive_score_P).all()


def test_every_positive_of_a_query_leaves_its_negatives() -> None:
    """Over all lines, by whatever name they call the query; before the depth is counted."""
    records = [
        {"qid": 7, "pos": [10, 11], "neg": {"a": [12, 11, 13], "b": [10, 14]}},
        {"question": "what is it", "pos_pid": 12, "neg_pids": [10, 15, 11]},
        {"question": "who", "pos_pid": 14, "neg_pids": [14, 14]},  # nothing is left
        {"query_id": 8, "positive_passages": [{"docid": 15}], "negative_passages": []},
        {"qid": 8, "pos": [13], "neg": {"a": [14, 12]}},
    ]
    lines = [(f"file:{number}", json.dumps(record)) for number, record in enumerate(records, 1)]
    groups, flaws = given.read(lines, COLLECTION, 2)
    assert flaws == {"positives_among_negatives": 3 + 3 + 2 + 2 + 1, "without_negatives": 2}
    assert groups.query_P.tolist() == [0, 0, 0, 1]
    assert groups.positive_P.tolist() == [0, 1, 2, 3]
    assert groups.negative_PM.tolist() == [[3, 4], [3, 4], [5, MISSING], [2, MISSING]]


def test_scores_stay_with_the_negatives_that_are_left() -> None:
    lion = {"question": "who", "pos_pid": 13, "neg_pids": [14, 11, 10], "pos_score": 5}
    groups = read(lion | {"neg_scores": [4, 3, 2]}, lion | {"pos_pid": 11, "neg_scores": [1, 2, 3]})
    assert groups.negative_PM.tolist() == [[4, 0], [4, 0]]
    assert groups.negative_score_PM.tolist() == [[4, 2], [1, 3]]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            '{"query": "who", "docids": [12, 10], "scores": [1, NaN]}',
            ": a score is NaN, and has to be a finite number.",
        ),
        (
            '{"question": "who", "pos_pid": 1, "neg_pids": [], "pos_score": Infinity, '
            '"neg_scores": []}',
            ": a score is Infinity, and has to be a finite number.",
        ),
        (
            '{"query": "who", "docids": [12, 10], "scores": [1, -1e39]}',
            ": a score is -1e+39, and has to be a finite number.",
        ),
        (
            '{"query": "who", "docids": [12, 10], "scores": [1, "2"]}',
            ': a score is "2", and has to be a finite number.',
        ),
        (
            '{"query": "who", "docids": [12, null], "scores": [1, 2]}',
            ": a document's id is null, and has to be text or a whole number.",
        ),
        (
            '{"query": "who", "docids": "12", "scores": [1, 2]}',
            ": what should list documents is \"12\", and has to be a list.",
        ),
        ('{"query": "who", "docids": [], "scores": []}', " names no document, and the first has "
         "to be the relevant one."),
        (
            '{"query": ["who"], "docids": [12, 10], "scores": [1, 2]}',
            ": the query is a list, and has to be text.",
        ),
        (
            '{"query_id": 8, "document_ids": [12, 10]}',
            " cannot be read as a training group: it has no 'scores'.",
        ),
        ('{"qid": 8, "pos": [12], "neg": {"a": [1]}}{"qid": 7}', " goes on at column 43, where its "
         "JSON has ended: write one object on each line."),
    ],
)  # fmt: skip
def test_a_line_is_refused_by_its_number(line: str, says: str) -> None:
    sound = json.dumps({"query": "who", "docids": ["12", "10"], "scores": [1, 2]})
    with pytest.raises(UserError) as caught:
        given.read([("groups.jsonl:1", sound), ("groups.jsonl:2", line)], COLLECTION, 2)
    assert str(caught.value) == f"groups.jsonl:2{says}"


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"question": "never heard", "pos_pid": "12", "neg_pids": ["10"]}, "file:1 names a query"),
        ({"question": "who", "pos_pid": "99", "neg_pids": ["10"]}, "names a document .*, '99'"),
        ({"qid": 9, "pos": [12], "neg": {"bm25": [10]}}, "file:1 names a query .*, '9'"),
        ({"qid": 8, "pos": [12], "neg": {"bm25": [77]}}, "a document .*, '77', as .* 1 of 1 times"),
        ({"query": "who", "pos": ["text"], "neg": ["text"]}, "no known form"),
        ({"question": "who", "pos_pid": "12"}, "file:1 cannot be read"),
        ({"query": "who", "docids": ["12", "10"], "scores": [1]}, "1 scores of 2 documents"),
        ({"query": "who", "docids": ["12"], "scores": [1]}, "no group with a negative"),
        (["who"], "file:1: the line is a list, and has to be a JSON object"),
    ],
)
def test_what_cannot_be_used_is_said_so(record: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read(record)


def test_scores_for_all_or_for_none() -> None:
    with pytest.raises(UserError, match=r"^file:2 has no scores, and 1 of 2 groups have: all"):
        read(WITH_SCORES[0], WITHOUT[0])


@pytest.mark.skipif(not FORMS.is_dir(), reason="LION_SWEEP_TEST_DATA names no collections")
@pytest.mark.parametrize(
    "name",
    [
        "scaling_retriever_nce.jsonl",
        "scaling_retriever_kd.jsonl",
        "scaling_retriever_marginmse.jsonl",
        "pylate_train.jsonl",
        "st_hard_negatives.jsonl",
        "tevatron_passages_with_score.jsonl",
    ],
)
def test_published_forms_on_real_passages(name: str) -> None:
    where = Folder(FORMS)
    documents = texts(dict(texts_in(where, "msmarco_collection.tsv")))
    queries = texts(dict(texts_in(where, "msmarco_queries.tsv")))
    collection = Collection("msmarco", documents, queries, {})
    groups, _ = given.read(where.lines(name), collection, 8)
    lines = list(where.lines(name))
    assert len(set(groups.query_P.tolist())) == len(lines)
    assert (groups.negative_PM[:, 0] != MISSING).all()
    if name == "scaling_retriever_kd.jsonl":
        first = json.loads(lines[0][1])
        assert documents.ids[groups.positive_P[0]] == first["pos_pid"]
        assert queries.take([int(groups.query_P[0])]) == [first["question"]]
        np.testing.assert_allclose(groups.negative_score_PM[0], first["neg_scores"], rtol=1e-6)
