"""A collection: documents, queries, and which document is relevant to which query."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lion_sweep.data.places import Judgement, Place
from lion_sweep.data.texts import Texts
from lion_sweep.errors import UserError

Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Judgements:
    """Which document is relevant to which query; their order, that of training pairs, counts."""

    qrels: Qrels

    @cached_property
    def identity(self) -> str:
        return hashlib.sha256(json.dumps(self.qrels).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Collection:
    """Texts and the judgements of some splits, by query id and document id."""

    name: str
    documents: Texts
    queries: Texts
    qrels: dict[str, Qrels]

    @property
    def checksum(self) -> str:
        """Of all content: texts, judgements, and the order of both."""
        parts = [self.documents.identity, self.queries.identity, self.qrels]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def judgements(self, split: str) -> Judgements:
        return Judgements(self.qrels[split])

    def asked(self, split: str) -> list[str]:
        """Ids of the queries of a split that have a relevant document."""
        return list(self.qrels[split])


def read_qrels(
    place: Place, name: str, splits: Iterable[str], documents: Texts, queries: Texts
) -> dict[str, Qrels]:
    """Judgements of the splits, every id of them checked; `name` may hold {split}.

    Queries without a relevant document are left out: they cannot be scored. Raises `UserError`
    for a judgement of a query or document that is not there, or where nothing is relevant.
    """
    files = {split: name.format(split=split) for split in splits}
    return {
        split: _checked(list(place.judgements(file, split)), place.where(file), documents, queries)
        for split, file in files.items()
    }


def _checked(judged: list[Judgement], name: str, documents: Texts, queries: Texts) -> Qrels:
    for what, texts, ids in (
        ("query", queries, [query for query, _, _ in judged]),
        ("document", documents, [document for _, document, _ in judged]),
    ):
        nowhere = [i for i, row in zip(ids, texts.rows(ids), strict=True) if row < 0]
        if nowhere:
            raise UserError(
                f"{name}: {len(nowhere)} of {len(ids)} judgements name a {what} that is not there, "
                f"such as {nowhere[0]!r}: mend the file, or take the {what} texts that belong to "
                "it."
            )
    qrels: Qrels = {}
    for query, document, grade in judged:
        qrels.setdefault(query, {})[document] = grade
    relevant = {query: grades for query, grades in qrels.items() if max(grades.values()) > 0}
    if not relevant:
        raise UserError(f"{name} holds no relevant document: every grade is 0 or less.")
    return relevant


def write(folder: Path, pairs: dict[str, list[tuple[str, str]]]) -> None:
    """Write (query, passage) pairs, by split, in BEIR layout; ids count over all splits."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    corpus: list[str] = []
    queries: list[str] = []
    for split, rows in pairs.items():
        qrels = ["query-id\tcorpus-id\tscore\n"]
        for query, passage in rows:
            number = len(corpus)
            corpus.append(json.dumps({"_id": f"d{number}", "title": "", "text": passage}) + "\n")
            queries.append(json.dumps({"_id": f"q{number}", "text": query}) + "\n")
            qrels.append(f"q{number}\td{number}\t1\n")
        (folder / "qrels" / f"{split}.tsv").write_text("".join(qrels), encoding="utf-8")
    (folder / "corpus.jsonl").write_text("".join(corpus), encoding="utf-8")
    (folder / "queries.jsonl").write_text("".join(queries), encoding="utf-8")
