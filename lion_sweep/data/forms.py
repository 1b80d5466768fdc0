"""How texts and judgements are written: one reader for each form, whoever hands out its lines.

    *.jsonl   {"_id": str, "title": str, "text": str}, the title may be missing, or
              {"query-id": str, "corpus-id": str, "score": int}, one object per line
    *.tsv     id TAB text, or query-id TAB corpus-id TAB grade; other columns where a header names
              them
    *.txt     a TREC qrels file: query-id, a column that is ignored, document-id, grade
    *.json    {query-id: {document-id: grade}}

Ids and texts are UTF-8. `at` says where something stands, as file:line, and leads every error.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from reprlib import repr as shortened
from typing import Any, NoReturn

from lion_sweep.errors import UserError

Text = tuple[str, str]  # id, text
Judgement = tuple[str, str, int]  # query id, document id, grade
Line = tuple[str, str]  # file:line, what stands there

GRADE = re.compile(r"[+-]?[0-9]+(\.0*)?")
LARGEST_GRADE = 10**9  # measures count in int32
# JSON may name one half of a pair, which is no character: no file can hold it.
SURROGATE = re.compile("[\ud800-\udfff]")
WIDE = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE


def decoded(raws: Iterable[bytes], where: str, before: int = 0) -> Iterator[Line]:
    """The lines of a file that hold something, with or without the mark that UTF-8 may begin with.

    `before` is how many lines stand before these. Raises `UserError` for what is not UTF-8.
    """
    for number, raw in enumerate(raws, start=before + 1):
        at = f"{where}:{number}"
        if number == 1:
            if raw.startswith(WIDE) or b"\0" in raw:
                raise UserError(
                    f"{at} is not UTF-8 but, by its first bytes, UTF-16: convert it, as in "
                    "iconv -f UTF-16 -t UTF-8."
                )
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            line = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{at} is not UTF-8 (byte {error.start} of the line): convert it."
            ) from None
        if line.strip():
            yield at, line


def parsed(text: str, at: str, objects: Callable[[list], Any] | None = None) -> Any:
    """JSON; `objects` makes something else than dictionaries out of the (key, value) of objects."""
    try:
        return json.loads(text, object_pairs_hook=objects)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise UserError(
                f"{at} goes on at column {error.colno}, where its JSON has ended: write one object "
                "on each line."
            ) from None
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise UserError(f"{at} is not JSON: {error.msg} ({line}column {error.colno}).") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep nesting
        raise UserError(f"{at} is JSON that cannot be read: {error}.") from None


def record_of(line: str, at: str) -> dict[str, Any]:
    """The JSON object of a line."""
    found = parsed(line, at)
    if not isinstance(found, dict):
        wrong(at, "the line", found, "a JSON object")
    return found


def wrong(at: str, what: str, value: Any, wanted: str) -> NoReturn:
    """Refuse a value of the wrong type."""
    names: dict[type, str] = {dict: "an object", tuple: "an object", list: "a list"}
    short = value[:40] if isinstance(value, str) else value
    found = names.get(type(value)) or json.dumps(short, default=repr)  # NaN, null, true
    raise UserError(f"{at}: {what} is {found[:60]}, and has to be {wanted}.")


def identifier(value: Any, at: str, what: str) -> str:
    """An id as text. Raises `UserError` for what run files cannot hold."""
    if type(value) not in (str, int):
        wrong(at, what, value, "text or a whole number")
    found = str(value)
    if found.split() != [found] or SURROGATE.search(found):
        raise UserError(
            f"{at}: {what} is {shortened(found)}: empty, with white space or half a character, "
            "which run files cannot hold: rename it."
        )
    return found


def whole(text: str) -> str:
    """The text with U+FFFD for every half of a character."""
    return SURROGATE.sub("\ufffd", text)


def text_of(record: Mapping[str, Any], at: str) -> Text:
    """(id, text) of a record; the title leads the text, as BEIR's models read them."""
    _has(record, ("_id", "text"), at, '{"_id": "d1", "title": "...", "text": "..."}')
    for key in ("title", "text"):
        if not isinstance(record.get(key), str | None):
            wrong(at, f'"{key}"', record[key], "text or null")
    joined = f"{record.get('title') or ''} {record['text'] or ''}".strip()
    return identifier(record["_id"], at, '"_id"'), joined


def judgement_of(record: Mapping[str, Any], at: str) -> Judgement:
    """(query id, document id, grade) of a record."""
    keys = "query-id", "corpus-id", "score"
    _has(record, keys, at, '{"query-id": "q1", "corpus-id": "d1", "score": 1}')
    query, document = (identifier(record[key], at, f'"{key}"') for key in keys[:2])
    return query, document, _grade(record["score"], at)


def _has(record: Mapping[str, Any], keys: Iterable[str], at: str, example: str) -> None:
    for key in keys:
        if key not in record:
            there = shown(record) or "nothing"
            raise UserError(f'{at} has no "{key}", only {there}: it has to be as in {example}.')


def shown(words: Iterable[str]) -> str:
    """The first of some words, as a message can show them."""
    return ", ".join(map(shortened, islice(words, 9)))


def _grade(value: Any, at: str) -> int:
    """A whole number, however it is written: 2, 2.0, "2"."""
    number = float(value) if isinstance(value, str) and GRADE.fullmatch(value) else value
    if type(number) in (int, float) and abs(number) < LARGEST_GRADE and number == int(number):
        return int(number)
    wrong(at, "the grade", value, "a whole number")


@dataclass(frozen=True)
class Table:
    """Lines of columns, in the order that a header gives them, or in a plain one.

    `names` are the words that headers have for each column, the most telling first; `plain` is
    where the columns stand without a header, by the number of fields.
    """

    names: Mapping[str, str]
    plain: Mapping[int, tuple[int, ...]]
    separator: str | None  # None: tabs, or else any white space
    wanted: str

    def records(
        self, lines: Iterable[Line], first: str | None = None
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """(file:line, field by column); `first` is the file's first line, where these go on."""
        header = self._fields(first or "")
        columns = self._header(header)
        for at, line in lines:
            fields = self._fields(line)
            if first is None:
                first, header, columns = line, fields, self._header(fields)
                if columns:
                    continue
            places = dict(zip(self.names, self.plain.get(len(fields), ()), strict=False))
            if not columns and not places:
                raise UserError(f"{at} is not {self.wanted}: it has {len(fields)} columns.")
            if columns and len(fields) != len(header):
                raise UserError(
                    f"{at} has {len(fields)} columns, and the header of the file {len(header)} "
                    f"({shown(header)})."
                )
            yield at, {name: fields[place] for name, place in (columns or places).items()}

    def _fields(self, line: str) -> list[str]:
        tab = self.separator or ("\t" if "\t" in line else None)
        return [field.strip() for field in line.split(tab)]

    def _header(self, fields: list[str]) -> dict[str, int]:
        """The places of the columns that the first line names; empty where it is no header."""
        words = [field.lower().lstrip("#") for field in fields]
        found = {
            name: words.index(known)
            for name, listed in self.names.items()
            for known in reversed(listed.split())
            if known in words
        }
        # One that begins with the name of an id is a header, whatever else it calls its columns.
        return found if len(found) > 1 or found.get(next(iter(self.names))) == 0 else {}


_DOCUMENT = "corpus-id corpus_id docid doc_id doc-id docno did pid passage_id passageid document_id"
_QUERY = "query-id query_id queryid qid topic_id topic-id"
TEXTS = Table(
    {
        "_id": f"_id id {_DOCUMENT} {_QUERY}",
        "text": "text passage_text query_text passage query question contents body document",
        "title": "title",
    },
    {2: (0, 1)},
    "\t",
    "id TAB text",
)
QRELS = Table(
    {
        "query-id": f"{_QUERY} query topic",
        "corpus-id": f"{_DOCUMENT} document passage",
        "score": "score grade relevance rel label relevancy judgement judgment",
    },
    {3: (0, 1, 2), 4: (0, 2, 3)},  # the second as TREC writes them
    None,
    "query-id TAB corpus-id TAB grade, nor a line of a TREC qrels file (query-id 0 document-id "
    "grade)",
)


@dataclass(frozen=True)
class Block:
    """Texts in some lines of a "jsonl" or "tsv" file, with all that it takes to read them alone."""

    form: str
    where: str
    raw: bytes
    before: int  # lines of the file before these
    first: str | None  # the file's first line that holds something, where it is before these

    def __iter__(self) -> Iterator[Text]:
        lines = decoded(BytesIO(self.raw), self.where, self.before)
        records = TEXTS.records(lines, self.first) if self.form == "tsv" else _objects(lines)
        return (text_of(record, at) for at, record in records)


def judgements(form: str, lines: Iterable[Line], where: str) -> Iterator[Judgement]:
    """The judgements of lines in the form "jsonl", "tsv", "txt" or "json"."""
    if form == "json":
        return _nested("\n".join(line for _, line in lines), where)
    records = _objects(lines) if form == "jsonl" else QRELS.records(lines)
    return (judgement_of(record, at) for at, record in records)


def _objects(lines: Iterable[Line]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((at, record_of(line, at)) for at, line in lines)


def _nested(text: str, where: str) -> Iterator[Judgement]:
    """An object is a tuple of its pairs here, as a dictionary would forget what is repeated."""
    qrels = parsed(text, where, tuple)
    if not isinstance(qrels, tuple):
        raise UserError(f"{where} is not {{query-id: {{document-id: grade}}}}.")
    for query, grades in qrels:
        at = f"{where}, query {shortened(query)}"
        if not isinstance(grades, tuple):
            raise UserError(f"{at} has no {{document-id: grade}}.")
        for document, grade in grades:
            record = {"query-id": query, "corpus-id": document, "score": grade}
            yield judgement_of(record, f"{at}, document {shortened(document)}")
