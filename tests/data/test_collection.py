"""Collections on disk: a round trip, and a message with file and line for what is malformed."""

import json
from pathlib import Path

import pytest

from lion_sweep.data import collection
from lion_sweep.errors import UserError

PAIRS = {
    "train": [("first query", "first passage"), ("second query", "zwei\tTabs\nund Zeilen")],
    "test": [("third quéry", 'with "quotes" and 雪')],
}
SPLITS = ["train", "test"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    collection.write(tmp_path / "beir", PAIRS)
    return tmp_path / "beir"


def append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def test_round_trip(folder: Path) -> None:
    found = collection.read(folder, "mine", SPLITS)
    assert found.name == "mine"
    for split, rows in PAIRS.items():
        assert [
            (found.queries[query], found.documents[document])
            for query, grades in found.qrels[split].items()
            for document in grades
        ] == rows
    assert set(found.qrels) == set(SPLITS)
    assert len(found.queries) == len(found.documents) == 3
    assert list(found.qrels["test"].values()) == [{"d2": 1}]


def test_a_split_that_is_not_asked_for_is_not_read(folder: Path) -> None:
    (folder / "qrels" / "train.tsv").unlink()
    assert set(collection.read(folder, "mine", ["test"]).qrels) == {"test"}


def test_the_checksum_follows_every_file(folder: Path) -> None:
    before = collection.read(folder, "mine", SPLITS).checksum
    assert collection.read(folder, "other name", SPLITS).checksum == before
    seen = {before}
    for name, line in {
        "corpus.jsonl": '{"_id": "d9", "text": "more"}',
        "queries.jsonl": '{"_id": "q9", "text": "more"}',
        "qrels/train.tsv": "q0\td1\t1",
        "qrels/test.tsv": "q0\td1\t1",
    }.items():
        append(folder / name, line)
        seen.add(collection.read(folder, "mine", SPLITS).checksum)
    assert len(seen) == 5


def test_titles_lead_the_text(folder: Path) -> None:
    append(folder / "corpus.jsonl", json.dumps({"_id": 7, "title": "A title", "text": "a text"}))
    append(folder / "corpus.jsonl", json.dumps({"_id": "t", "title": "Alone", "text": ""}))
    documents = collection.read(folder, "mine", SPLITS).documents
    assert documents["7"] == "A title a text"
    assert documents["t"] == "Alone"


def test_grades_and_unjudged_queries(folder: Path) -> None:
    path = folder / "qrels" / "test.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nq0\td0\t2\nq0\td1\t0\n\nq1\td1\t0\nq2\td2\t-1\n")
    # A query without a relevant document cannot be scored.
    assert collection.read(folder, "mine", SPLITS).qrels["test"] == {"q0": {"d0": 2, "d1": 0}}


def test_qrels_without_a_header(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text("q0\td0\t1\n")
    assert collection.read(folder, "mine", SPLITS).qrels["test"] == {"q0": {"d0": 1}}


@pytest.mark.parametrize(
    ("name", "line", "number", "says"),
    [
        ("corpus.jsonl", "{not JSON", 4, "JSON"),
        ("queries.jsonl", "{not JSON", 4, "JSON"),
        ("corpus.jsonl", '{"text": "no id"}', 4, "_id"),
        ("queries.jsonl", '{"_id": "no text"}', 4, "text"),
        ("corpus.jsonl", '["a list"]', 4, "_id"),
        ("corpus.jsonl", '{"_id": "d1", "text": "again"}', 4, "'d1'"),
        ("queries.jsonl", '{"_id": "q1", "text": "again"}', 4, "'q1'"),
        ("corpus.jsonl", '{"_id": "d9", "title": " ", "text": " "}', 4, "empty"),
        ("queries.jsonl", '{"_id": "q9", "text": null}', 4, "empty"),
        ("qrels/train.tsv", "q0 d0 1", 4, "TAB"),
        ("qrels/train.tsv", "q0\td0", 4, "TAB"),
        ("qrels/train.tsv", "q0\td0\t0.5", 4, "whole number"),
        ("qrels/train.tsv", "q0\td0\t--1", 4, "whole number"),
        ("qrels/train.tsv", "q0\t0\td0\t1", 4, "TAB"),
        ("qrels/train.tsv", "q77\td0\t1", 4, "'q77'"),
        ("qrels/test.tsv", "q0\td77\t1", 3, "'d77'"),
    ],
)
def test_a_malformed_line_is_named(
    folder: Path, name: str, line: str, number: int, says: str
) -> None:
    append(folder / name, line)
    with pytest.raises(UserError) as caught:
        collection.read(folder, "mine", SPLITS)
    assert f"{folder / name}:{number} " in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "name", ["corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv"]
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match="is missing") as caught:
        collection.read(folder, "mine", SPLITS)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_an_empty_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("\n")
    with pytest.raises(UserError, match="is empty") as caught:
        collection.read(folder, "mine", SPLITS)
    assert str(folder / name) in str(caught.value)


def test_not_a_folder(folder: Path) -> None:
    for path in (folder / "corpus.jsonl", folder / "nowhere"):
        with pytest.raises(UserError, match="is not a folder") as caught:
            collection.read(path, "mine", SPLITS)
        assert f"data.path={path}" in str(caught.value)


def test_nothing_relevant(folder: Path) -> None:
    path = folder / "qrels" / "test.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nq0\td0\t0\n")
    with pytest.raises(UserError, match="no relevant document") as caught:
        collection.read(folder, "mine", SPLITS)
    assert str(path) in str(caught.value)
