"""A collection on disk in BEIR layout: reading, checking, writing.

corpus.jsonl    {"_id": str, "title": str, "text": str} per line
queries.jsonl   {"_id": str, "text": str} per line
qrels/SPLIT.tsv header, then query-id TAB corpus-id TAB grade
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.errors import UserError

Qrels = dict[str, dict[str, int]]
GRADE = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class Collection:
    """Texts and judgements; `checksum` is over the files that were read."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, Qrels]
    checksum: str


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a jsonl file whose objects carry an `_id`."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number} is not JSON: {error.msg}.") from None
            if not isinstance(record, dict) or "_id" not in record or "text" not in record:
                raise UserError(
                    f'{path}:{number} needs "_id" and "text", as in {{"_id": "d1", "text": "..."}}.'
                )
            yield number, record


def _read_texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, record in _records(path):
        identifier = str(record["_id"])
        if identifier in texts:
            raise UserError(f"{path}:{number} repeats the _id {identifier!r}: ids must be unique.")
        text = f"{record.get('title') or ''} {record['text'] or ''}".strip()
        if not text:
            raise UserError(f"{path}:{number} has an empty text: remove the line or fill it.")
        texts[identifier] = text
    if not texts:
        raise UserError(f"{path} is empty.")
    return texts


def _read_qrels(path: Path, documents: dict[str, str], queries: dict[str, str]) -> Qrels:
    qrels: Qrels = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.rstrip("\n").split("\t")
            if number == 1 and fields[-1].strip() == "score":
                continue
            if not line.strip():
                continue
            if len(fields) != 3 or not GRADE.fullmatch(fields[2].strip()):
                raise UserError(
                    f"{path}:{number} is not query-id TAB corpus-id TAB grade (a whole number)."
                )
            query, document, grade = fields[0], fields[1], int(fields[2])
            if query not in queries:
                raise UserError(f"{path}:{number} names query {query!r}, not in queries.jsonl.")
            if document not in documents:
                raise UserError(
                    f"{path}:{number} names document {document!r}, not in corpus.jsonl."
                )
            qrels.setdefault(query, {})[document] = grade
    judged = {query: grades for query, grades in qrels.items() if max(grades.values()) > 0}
    if not judged:
        raise UserError(f"{path} holds no relevant document: every grade is 0 or less.")
    return judged


def read(folder: Path, name: str, splits: list[str]) -> Collection:
    """The collection in `folder` with the qrels of `splits`; UserError names file and line."""
    corpus, queries = folder / "corpus.jsonl", folder / "queries.jsonl"
    qrels = {split: folder / "qrels" / f"{split}.tsv" for split in splits}
    if not folder.is_dir():
        raise UserError(f"data.path={folder} is not a folder: give one in BEIR format.")
    for path in (corpus, queries, *qrels.values()):
        if not path.is_file():
            raise UserError(
                f"{path} is missing: a BEIR folder holds corpus.jsonl, queries.jsonl and "
                f"qrels/SPLIT.tsv. Splits asked for: {', '.join(splits)} (data.train_split, "
                "data.test_split)."
            )
    digest = hashlib.sha256()
    for path in (corpus, queries, *qrels.values()):
        digest.update(path.read_bytes())
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 (byte {error.start}): convert it.") from None
    documents, texts = _read_texts(corpus), _read_texts(queries)
    return Collection(
        name=name,
        documents=documents,
        queries=texts,
        qrels={split: _read_qrels(path, documents, texts) for split, path in qrels.items()},
        checksum=digest.hexdigest()[:16],
    )


def write(folder: Path, pairs: dict[str, list[tuple[str, str]]]) -> None:
    """Write (query, passage) pairs, by split, in BEIR layout; ids count over all splits."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    number = 0
    with (
        (folder / "corpus.jsonl").open("w", encoding="utf-8") as corpus,
        (folder / "queries.jsonl").open("w", encoding="utf-8") as queries,
    ):
        for split, rows in pairs.items():
            with (folder / "qrels" / f"{split}.tsv").open("w", encoding="utf-8") as qrels:
                qrels.write("query-id\tcorpus-id\tscore\n")
                for query, passage in rows:
                    document = json.dumps({"_id": f"d{number}", "title": "", "text": passage})
                    corpus.write(document + "\n")
                    queries.write(json.dumps({"_id": f"q{number}", "text": query}) + "\n")
                    qrels.write(f"q{number}\td{number}\t1\n")
                    number += 1
