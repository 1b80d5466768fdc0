"""Forms of texts and judgements: what people bring is read, or refused by line and field."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import texts_in

from lion_sweep.data.places import place
from lion_sweep.errors import UserError

TEXTS = [("d1", "Title with text"), ("7", "zwei \u96ea"), ("empty", "")]
JUDGED = [("q1", "d1", 2), ("q1", "7", 0), ("q2", "7", 1)]
MARK = b"\xef\xbb\xbf"


def read(folder: Path, name: str, content: bytes | str) -> list[Any]:
    """What a file of this content holds."""
    raw = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(raw)
    found = place(str(folder))
    return list(
        found.judgements(name, "test") if name.startswith("qrel") else texts_in(found, name)
    )


def refusal(folder: Path, name: str, content: bytes | str) -> str:
    """What is said of it, after the file's name."""
    with pytest.raises(UserError) as caught:
        read(folder, name, content)
    assert str(caught.value).startswith(f"{folder / name}")
    return str(caught.value).removeprefix(str(folder / name))


def rows(separator: str, *columns: str) -> str:
    """The judgements as lines of columns by these names, others being 0."""
    named = [{"query": q, "document": d, "grade": str(g)} for q, d, g in JUDGED]
    return "".join(separator.join(row.get(c, "0") for c in columns) + "\n" for row in named)


PLAIN = rows("\t", "query", "document", "grade")
OBJECTS = [{"query-id": q, "corpus-id": d, "score": grade} for q, d, grade in JUDGED]
LINES = [json.dumps(row) for row in OBJECTS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("qrels.tsv", PLAIN),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\n" + PLAIN),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\r\n" + PLAIN.replace("\n", "\r\n")),
        ("qrels.tsv", "\n# qid\tdocid\tRelevance\n".replace("# ", "#") + PLAIN),
        ("qrels.tsv", PLAIN.replace("\t1\n", "\t1.0\n").replace("\td1\t", "\t d1 \t")),
        ("qrels.tsv", "score\tpid\tqid\n" + rows("\t", "grade", "document", "query")),
        # A header's more telling names count: here `query` holds what was asked.
        (
            "qrels.tsv",
            "query\tquery_id\titeration\tdocno\tlabel\n"
            + rows("\t", "what", "query", "x", "document", "grade"),
        ),
        ("qrels.txt", rows(" ", "query", "x", "document", "grade")),
        ("qrels.txt", rows("   ", "query", "document", "grade")),
        ("qrels.tsv", rows("\t", "query", "x", "document", "grade")),
        ("qrels.jsonl", "\n".join(LINES)),
        ("qrels.jsonl", "\n\n".join(LINES).replace(": 2", ": 2.0").replace(": 1", ': "1"')),
        ("qrels.json", '{"q1": {"d1": 2, "7": 0},\n\n "q2": {"7": 1}}'),
    ],
)
@pytest.mark.parametrize("mark", [b"", MARK])
def test_judgements(tmp_path: Path, name: str, content: str, mark: bytes) -> None:
    assert read(tmp_path, name, mark + content.encode()) == JUDGED


def test_what_is_judged_twice_is_handed_on(tmp_path: Path) -> None:
    """Of a dictionary too, which would forget the first."""
    twice = [("q", "d", 2), ("q", "d", 1), ("q", "e", 0)]
    assert read(tmp_path, "qrels.json", '{"q": {"d": 2, "d": 1}, "q": {"e": 0}}') == twice
    assert read(tmp_path, "qrels.tsv", "q\td\t2\nq\td\t1\nq\te\t0\n") == twice


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "corpus.jsonl",
            "".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in TEXTS),
            TEXTS,
        ),
        ("corpus.jsonl", '{"_id": 7, "title": null, "text": null}', [("7", "")]),
        ("corpus.jsonl", '{"_id": "x", "text": "\\ud83d\\ude00"}', [("x", "\U0001f600")]),
        ("corpus.jsonl", '{"_id": "x", "text": "a\\ud83d"}', [("x", "a\ud83d")]),  # see texts.py
        ("corpus.tsv", "d1\tTitle with text\n7\tzwei \u96ea\nempty\t\n", TEXTS),
        ("corpus.tsv", "pid\ttext\nd1\tTitle with text\n7\tzwei \u96ea\nempty\t\n", TEXTS),
        (
            "corpus.tsv",
            "id\ttext\ttitle\nd1\twith text\tTitle\n7\tzwei \u96ea\t\nempty\t\t\n",
            TEXTS,
        ),
        ("corpus.tsv", "Title\tPassage\tDocID\nTitle\twith text\td1\n", TEXTS[:1]),
        ("queries.tsv", "qid\tquery\n7\tzwei \u96ea\n", TEXTS[1:2]),
        # Published questions that hold such words are no headers.
        ("queries.tsv", "7\ttext\n8\ttitle\n", [("7", "text"), ("8", "title")]),
        ("queries.tsv", "query\twhat it is\n", [("query", "what it is")]),
    ],
)
@pytest.mark.parametrize("mark", [b"", MARK])
def test_texts(tmp_path: Path, name: str, content: str, expected: Any, mark: bytes) -> None:
    assert read(tmp_path, name, mark + content.encode()) == expected


EXAMPLE = 'it has to be as in {"_id": "d1", "title": "...", "text": "..."}.'
JUDGEMENT = 'it has to be as in {"query-id": "q1", "corpus-id": "d1", "score": 1}.'
NO_ID = "empty, with white space or half a character, which run files cannot hold: rename it."
SOUND = '{"_id": 1, "text": "a"}\n'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "corpus.jsonl",
            SOUND + "{not JSON\n",
            ":2 is not JSON: Expecting property name enclosed in double quotes (column 2).",
        ),
        ("corpus.jsonl", '{"text": "no id"}', f":1 has no \"_id\", only 'text': {EXAMPLE}"),
        ("corpus.jsonl", '{"_id": 1, "x\\ud800": 1}', f':1 has no "text", only \'_id\', '
         f"'x\\ud800': {EXAMPLE}"),
        ("corpus.jsonl", "{}", f':1 has no "_id", only nothing: {EXAMPLE}'),
        ("corpus.jsonl", '["a list"]', ":1: the line is a list, and has to be a JSON object."),
        (
            "corpus.jsonl",
            "9" * 4000,
            f":1: the line is {'9' * 60}, and has to be a JSON object.",
        ),
        (
            "corpus.jsonl",
            SOUND * 2 + '{"_id": null, "text": "a"}\n',
            ':3: "_id" is null, and has to be text or a whole number.',
        ),
        (
            "corpus.jsonl",
            '{"_id": 1.5, "text": "a"}',
            ':1: "_id" is 1.5, and has to be text or a whole number.',
        ),
        (
            "corpus.jsonl",
            SOUND + '{"_id": 2, "text": ["b"]}',
            ':2: "text" is a list, and has to be text or null.',
        ),
        (
            "corpus.jsonl",
            '{"_id": 2, "title": NaN, "text": "b"}',
            ':1: "title" is NaN, and has to be text or null.',
        ),
        (
            "corpus.jsonl",
            '{"_id": 2, "title": {}, "text": "b"}',
            ':1: "title" is an object, and has to be text or null.',
        ),
        (
            "corpus.jsonl",
            '{"_id": 2, "text": -Infinity}',
            ':1: "text" is -Infinity, and has to be text or null.',
        ),
        (
            "corpus.jsonl",
            SOUND.strip() * 3,
            ":1 goes on at column 24, where its JSON has ended: write one object on each line.",
        ),
        ("corpus.jsonl", '{"_id": "a b", "text": ""}', f":1: \"_id\" is 'a b': {NO_ID}"),
        ("corpus.jsonl", '{"_id": "", "text": ""}', f":1: \"_id\" is '': {NO_ID}"),
        ("corpus.jsonl", '{"_id": "x\\ud83d", "text": ""}', f":1: \"_id\" is 'x\\ud83d': {NO_ID}"),
        ("queries.tsv", b"1\tb\n2\tcaf\xe9\n", ":2 is not UTF-8 (byte 5 of the line): convert it."),
        ("corpus.jsonl", b'\n\n{"\xe9": 1}', ":3 is not UTF-8 (byte 2 of the line): convert it."),
        ("corpus.tsv", "1\ttext\n2 text\n", ":2 is not id TAB text: it has 1 columns."),
        ("corpus.tsv", "1\ttext\tmore\n", ":1 is not id TAB text: it has 3 columns."),
        ("corpus.tsv", "\ttext\n", f":1: \"_id\" is '': {NO_ID}"),
        ("corpus.tsv", "pid\tabstract\nd1\ta\n", f":2 has no \"text\", only '_id': {EXAMPLE}"),
        (
            "corpus.tsv",
            "pid\ttext\nd1\ta\tb\n",
            ":2 has 3 columns, and the header of the file 2 ('pid', 'text').",
        ),
        (
            "qrels.tsv",
            "q1\td1\n",
            ":1 is not query-id TAB corpus-id TAB grade, nor a line of a TREC qrels file (query-id "
            "0 document-id grade): it has 2 columns.",
        ),
        (
            "qrels.tsv",
            "query-id\tcorpus-id\tscore\nq1\td1\t0.5\n",
            ':2: the grade is "0.5", and has to be a whole number.',
        ),
        ("qrels.tsv", "q1\td1\tnan\n", ':1: the grade is "nan", and has to be a whole number.'),
        ("qrels.txt", "q1 0 d1 --1\n", ':1: the grade is "--1", and has to be a whole number.'),
        (
            "qrels.tsv",
            f"q1\td1\t{10**12}\n",
            ':1: the grade is "1000000000000", and has to be a whole number.',
        ),
        ("qrels.tsv", "qid\tdocid\nq1\td1\n", f":2 has no \"score\", only 'query-id', "
         f"'corpus-id': {JUDGEMENT}"),
        (
            "qrels.jsonl",
            '{"query-id": "q", "corpus-id": "d", "score": true}',
            ":1: the grade is true, and has to be a whole number.",
        ),
        (
            "qrels.jsonl",
            '{"query-id": "q", "corpus-id": "d", "score": NaN}',
            ":1: the grade is NaN, and has to be a whole number.",
        ),
        (
            "qrels.jsonl",
            '{"query-id": ["q"], "corpus-id": "d", "score": 1}',
            ':1: "query-id" is a list, and has to be text or a whole number.',
        ),
        ("qrel.json", "[1]", " is not {query-id: {document-id: grade}}."),
        ("qrel.json", '{"q": 3}', ", query 'q' has no {document-id: grade}."),
        ("qrel.json", '{"q": [["d", 1]]}', ", query 'q' has no {document-id: grade}."),
        (
            "qrel.json",
            '{"q":\n {"d": 0.5}}',
            ", query 'q', document 'd': the grade is 0.5, and has to be a whole number.",
        ),
        (
            "qrel.json",
            '{"q":\n {"d": 1',
            " is not JSON: Expecting ',' delimiter (line 2, column 9).",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, name: str, content: bytes | str, says: str) -> None:
    assert refusal(tmp_path, name, content) == says


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    assert refusal(tmp_path, "corpus.jsonl", SOUND.encode(encoding)) == (
        ":1 is not UTF-8 but, by its first bytes, UTF-16: convert it, as in iconv -f UTF-16 -t "
        "UTF-8."
    )


@pytest.mark.parametrize("value", ["[" * 100_000, "1" * 5000])
def test_json_that_python_does_not_read(tmp_path: Path, value: str) -> None:
    said = refusal(tmp_path, "corpus.jsonl", f'{{"_id": 1, "text": {value}')
    assert said.startswith(":1 is JSON that cannot be read: ")


def test_a_form_that_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(UserError, match=r"x\.csv: texts are read from files in \.jsonl, \.tsv\.$"):
        list(texts_in(place(str(tmp_path)), "x.csv"))
    with pytest.raises(UserError, match=r"qrels are read from files in \.tsv, \.jsonl,"):
        list(place(str(tmp_path)).judgements("x.csv", "test"))
