"""Texts in Arrow files and judgements of them: round trips, and what is refused."""

import resource
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from support import texts_in

from lion_sweep.cell.tasks import failure_class
from lion_sweep.config import Config
from lion_sweep.data import collection, texts
from lion_sweep.data.collection import Collection, Judged, judge
from lion_sweep.data.places import place
from lion_sweep.errors import UserError
from lion_sweep.machine.progress import Progress
from lion_sweep.stages import texts as stages
from lion_sweep.stages.workshop import Workshop

PAIRS = {
    "train": [("first query", "first passage"), ("second query", "zwei\tTabs\nund Zeilen")],
    "test": [("third qu\u00e9ry", 'with "quotes" and \u96ea')],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    collection.write(tmp_path / "beir", PAIRS)
    return tmp_path / "beir"


def imported(folder: Path, name: str) -> texts.Texts:
    """The texts of a file, through an Arrow file."""
    return written(texts_in(place(str(folder)), name), folder / f"{name}.arrow", name)


def written(pairs: Iterable[tuple[str, str]], path: Path, source: str) -> texts.Texts:
    """Texts out of the file that they were written to."""
    facts = texts.write([list(pairs)], path, source)
    return texts.read(path, facts["checksum"], facts["flaws"].items())


def read(folder: Path, *splits: str) -> Collection:
    """The collection in a BEIR folder."""
    documents, queries = imported(folder, "corpus.jsonl"), imported(folder, "queries.jsonl")
    where = place(str(folder))
    texts_of = documents, queries
    judged = {split: judge(where, f"qrels/{split}.tsv", split, *texts_of) for split in splits}
    return Collection("mine", *texts_of, judged)


def test_round_trip(folder: Path) -> None:
    found = read(folder, "train", "test")
    for split, rows in PAIRS.items():
        asked, qrels = found.judged[split].asked, found.judged[split].qrels
        relevant = [next(iter(qrels[query])) for query in asked]
        pairs = zip(found.queries.of(asked), found.documents.of(relevant), strict=True)
        assert list(pairs) == rows
    assert found.documents.all() == [passage for rows in PAIRS.values() for _, passage in rows]
    assert [text for batch in found.documents.batches() for text in batch] == found.documents.all()
    assert found.documents.rows(["d2", "nowhere", "d0"]).tolist() == [2, -1, 0]
    assert found.documents.take([2, 0, 0]) == [PAIRS["test"][0][1], *["first passage"] * 2]


def test_the_checksum_follows_the_content(folder: Path) -> None:
    before = read(folder, "train", "test").checksum
    assert read(folder, "train", "test").checksum == before
    seen = {before, read(folder, "test").checksum}
    for name, line in {
        "corpus.jsonl": '{"_id": "d9", "text": "more"}',
        "queries.jsonl": '{"_id": "q9", "text": "more"}',
        "qrels/train.tsv": "q0\td1\t1",
        "qrels/test.tsv": "q0\td1\t1",
    }.items():
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n\n")
        seen.add(read(folder, "train", "test").checksum)
    assert len(seen) == 6


def test_the_digest_of_texts_follows_ids_texts_and_order(tmp_path: Path) -> None:
    """Judgements name ids, and rows are places: what differs in either is another content."""
    seen = [
        texts.write([pairs], tmp_path / "x.arrow", "x")["checksum"]
        for pairs in (
            [("a", "one"), ("b", "two")],
            [("a", "one"), ("c", "two")],
            [("a", "one"), ("b", "two ")],
            [("b", "two"), ("a", "one")],
            [("a", "two"), ("b", "one")],
            [("a", "one"), ("b", "two")],
        )
    ]
    assert seen[0] == seen[-1]
    assert len(set(seen)) == len(seen) - 1


def test_empty_and_repeated_texts_are_kept_and_counted(tmp_path: Path) -> None:
    pairs = [("a", "same"), ("b", ""), ("c", "same"), ("d", ""), ("e", "same"), ("f", "other")]
    found = written(pairs, tmp_path / "x.arrow", "x")
    assert (len(found), found.flaws) == (6, {"empty": 2, "repeated": 2, "mended": 0})
    assert found.of(["d", "e"]) == ["", "same"]


def test_thousands_of_texts_in_many_batches(tmp_path: Path) -> None:
    pairs = [(f"d{number}", f"text {number}") for number in range(2 * texts.BATCH + 1)]
    found = written(pairs, tmp_path / "x.arrow", "x")
    assert list(zip(found.ids, found.all(), strict=True)) == pairs
    assert [len(batch) for batch in found.batches()] == [texts.BATCH, texts.BATCH, 1]
    assert found.of(["d20000", "d9999"]) == ["text 20000", "text 9999"]


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([], "x is empty"),
        ([("a", "1"), ("a", "2")], "x repeats the id 'a'"),
    ],
)
def test_ids_that_cannot_be(tmp_path: Path, pairs: list[tuple[str, str]], says: str) -> None:
    with pytest.raises(UserError, match=says):
        texts.write([pairs], tmp_path / "x.arrow", "x")


def test_half_a_character_is_replaced_and_counted(tmp_path: Path) -> None:
    """Nothing else of the text changes, and its content is that of the replaced one."""
    pairs = [("a", "half \ud83d and \ude00"), ("b", "whole \U0001f600"), ("c", "\udc00")]
    found = written(pairs, tmp_path / "x.arrow", "x")
    assert found.all() == ["half \ufffd and \ufffd", "whole \U0001f600", "\ufffd"]
    assert found.flaws == {"empty": 0, "repeated": 0, "mended": 2}
    again = written(zip(found.ids, found.all(), strict=True), tmp_path / "y.arrow", "y")
    assert again.checksum == found.checksum


NO_FLAWS = {"judged_twice": 0, "missing_passages": 0, "missing_queries": 0, "nothing_relevant": 0}
HEADER = "query-id\tcorpus-id\tscore\n"


def judged(folder: Path, lines: str) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """(judgements, those flaws that there are) of a test split of these lines."""
    (folder / "qrels" / "test.tsv").write_text(HEADER + lines)
    found = read(folder, "test")
    assert set(found.judged["test"].flaws) == set(NO_FLAWS)
    return found.judged["test"].qrels, {k: n for k, n in found.judged["test"].flaws.items() if n}


def test_grades_and_unjudged_queries(folder: Path) -> None:
    """A query without a relevant document cannot be scored."""
    qrels, flaws = judged(folder, "q0\td0\t2\nq0\td1\t0\n\nq1\td1\t0\nq1\td0\t0\nq2\td2\t-1\n")
    assert (qrels, flaws) == ({"q0": {"d0": 2, "d1": 0}}, {"nothing_relevant": 3})


def test_judgements_of_what_is_not_there(folder: Path) -> None:
    """A passage stays judged and is never found; a query that is not there asks nothing."""
    qrels, flaws = judged(folder, "q0\td0\t1\nq0\td77\t2\nq2\td78\t1\nq2\td79\t0\nq77\td0\t1\n")
    assert qrels == {"q0": {"d0": 1, "d77": 2}, "q2": {"d78": 1, "d79": 0}}
    assert flaws == {"missing_passages": 3, "missing_queries": 1}
    assert list(read(folder, "test").told()) == [
        "  of its test judgements, 3 name a passage that is not there, which is never found, 1 "
        "name a query that is not there, and are left out"
    ]


def test_of_a_pair_that_is_judged_twice_the_highest_grade_counts(folder: Path) -> None:
    qrels, flaws = judged(folder, "q0\td0\t1\nq0\td0\t0\nq2\td2\t0\nq2\td2\t3\nq2\td2\t3\n")
    assert (qrels, flaws) == ({"q0": {"d0": 1}, "q2": {"d2": 3}}, {"judged_twice": 3})


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            "q77\td0\t1\nq78\td0\t1\n",
            "none of its 2 judgements names a query that is there, the first one 'q77': take the "
            "query texts that belong to the file.",
        ),
        (
            "q0\td77\t1\n",
            "none of its 1 judgements names a document that is there, the first one 'd77': take "
            "the document texts that belong to the file.",
        ),
        (
            "q0\td77\t1\nq0\td0\t0\n",
            "none of the documents that it calls relevant is there: take the document texts that "
            "belong to the file.",
        ),
    ],
)
def test_judgements_that_belong_to_other_texts(folder: Path, lines: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        judged(folder, lines)
    assert str(caught.value) == f"{folder / 'qrels' / 'test.tsv'}: {says}"


def test_judgements_with_their_rows_out_of_a_file(folder: Path, tmp_path: Path) -> None:
    """A passage that is not there has no row; those of a query come to stand side by side."""
    (folder / "qrels" / "test.tsv").write_text(
        HEADER + "q2\td2\t1\nq0\tgone\t2\nq2\td0\t0\nq0\td1\t-1\n"
    )
    before = read(folder, "test").judged["test"]
    before.save(tmp_path / "judgements.arrow")
    found = Judged.read(tmp_path / "judgements.arrow", before.checksum, before.flaws)
    assert found.qrels == {"q2": {"d2": 1, "d0": 0}, "q0": {"gone": 2, "d1": -1}}
    assert list(found.qrels) == found.asked == ["q2", "q0"]
    assert found.asked_rows.tolist() == [2, 0]
    columns = {name: found.column(name).tolist() for name in ("grade", "query_row", "document_row")}
    assert columns == {
        "grade": [1, 0, 2, -1],
        "query_row": [2, 2, 0, 0],
        "document_row": [2, 0, -1, 1],
    }


def test_nothing_relevant(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\t0\n")
    with pytest.raises(UserError, match=r"qrels/test\.tsv holds no relevant document"):
        read(folder, "test")


def test_a_full_disk_while_importing(tmp_path: Path, compose_cell: Callable[..., Config]) -> None:
    """The system refuses to let the file grow; nothing half is taken for whole afterwards."""
    pairs = [(f"query {number}", f"passage {number} " * 9) for number in range(2000)]
    collection.write(tmp_path / "beir", {"train": pairs, "test": PAIRS["test"]})

    def imported_to(root: str) -> Collection:
        words = ["data=beir", f"data.path={tmp_path / 'beir'}", f"paths.root={tmp_path / root}"]
        shop = Workshop(tmp_path / root, Progress("cell", None))
        config = compose_cell(*words)
        return stages.evaluation_sets(config, shop)[config.data.name][0].read(shop)

    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, unlimited[1]))
    try:
        with pytest.raises(OSError, match=r"as texts wrote below .*: free some space") as error:
            imported_to("full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert failure_class(error.value) == "disk full"
    assert not list((tmp_path / "full").rglob("done.json"))
    again, plain = imported_to("full"), imported_to("roomy")
    assert again.documents.all() == plain.documents.all()
    assert again.checksum == plain.checksum
