"""A collection: documents, queries, and which document is relevant to which query."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lion_sweep.data.forms import Judgement
from lion_sweep.data.places import Place
from lion_sweep.data.texts import Texts
from lion_sweep.errors import UserError
from lion_sweep.files import key_of

Qrels = dict[str, dict[str, int]]
Flaws = dict[str, int]  # how many of what; SAID puts it in words

SAID = {
    "empty": "are empty",
    "repeated": "repeat another",
    "mended": "held half a character, which is U+FFFD now",
    "judged_twice": "judge a pair again, of which the highest grade counts",
    "missing_passages": "name a passage that is not there, which is never found",
    "missing_queries": "name a query that is not there, and are left out",
    "nothing_relevant": "are of queries without a relevant passage, and are left out",
    "positives_among_negatives": "negatives are positives of their query, and leave its negatives",
    "false_negatives": "negatives score within negatives.margin of their positive, and are dropped",
    "missing_positives": "have a positive that is not there, and are left out",
    "without_negatives": "have no negative, and are left out",
}


def said(flaws: Flaws) -> str:
    """Those that there are, in words."""
    return ", ".join(f"{count:,} {SAID[flaw]}" for flaw, count in flaws.items() if count)


class Judged:
    """Judgements of a split, J of them, in an Arrow file; those of a query stand side by side.

    `checksum` is of ids, grades and their order, that of training pairs; `flaws` is how many of
    what are odd.
    """

    def __init__(self, table: pa.Table, checksum: str, flaws: Flaws) -> None:
        self._table, self.checksum, self.flaws = table, checksum, flaws

    @classmethod
    def read(cls, path: Path, checksum: str, flaws: Flaws) -> "Judged":
        """What `save` wrote, memory-mapped; the rest is what it had."""
        with pa.memory_map(str(path)) as source:
            return cls(pa.ipc.open_file(source).read_all(), checksum, flaws)

    def save(self, path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self._table.schema) as file:
            file.write_table(self._table)

    @classmethod
    def of(cls, qrels: Qrels, documents: Texts, queries: Texts, flaws: Flaws) -> "Judged":
        """Judgements of texts, with their rows: -1 of a passage that is not there."""
        pairs = [(q, d, grade) for q, grades in qrels.items() for d, grade in grades.items()]
        query_ids, document_ids, grade_J = zip(*pairs, strict=True)
        columns = {
            "query": pa.array(query_ids, pa.large_string()),
            "document": pa.array(document_ids, pa.large_string()),
            "grade": pa.array(grade_J, pa.int32()),
            "query_row": pa.array(queries.rows(query_ids), pa.int32()),
            "document_row": pa.array(documents.rows(document_ids), pa.int32()),
        }
        return cls(pa.table(columns), key_of(pairs), flaws)

    def column(self, name: str) -> NDArray[np.int32]:
        """[J] numbers: "grade", "query_row" or "document_row"."""
        return self._table[name].to_numpy()

    def of_queries(self, rows: NDArray[np.int64]) -> "Judged":
        """Those of some queries, by their rows; of the whole they keep the checksum."""
        mask_J = np.isin(self.column("query_row"), rows)
        return Judged(self._table.filter(pa.array(mask_J)), self.checksum, self.flaws)

    @cached_property
    def qrels(self) -> Qrels:
        """Grades by query and document, in the order of the judgements."""
        found: Qrels = {}
        columns = (self._table[name].to_pylist() for name in ("query", "document", "grade"))
        for query, document, grade in zip(*columns, strict=True):
            found.setdefault(query, {})[document] = grade
        return found

    @cached_property
    def asked(self) -> list[str]:
        """Ids of the queries, each of which has a relevant document."""
        return self._table["query"].unique().to_pylist()

    @cached_property
    def asked_rows(self) -> NDArray[np.int64]:
        """Rows of the same queries."""
        return self._table["query_row"].unique().to_numpy().astype(np.int64)


@dataclass(frozen=True)
class Collection:
    """Texts and the judgements of some splits, by query id and document id."""

    name: str
    documents: Texts
    queries: Texts
    judged: dict[str, Judged]  # by split

    @property
    def flaws(self) -> dict[str, Flaws]:
        """What is odd in each part, counted."""
        parts = {"passages": self.documents.flaws, "queries": self.queries.flaws}
        return parts | {f"{split} judgements": one.flaws for split, one in self.judged.items()}

    def told(self) -> Iterator[str]:
        """The same in words, a line for each part that is not flawless."""
        for part, flaws in self.flaws.items():
            if words := said(flaws):
                yield f"  of its {part}, {words}"

    def facts(self, split: str) -> dict[str, Any]:
        """What a result says of it."""
        return {
            "checksum": self.checksum,
            "documents": len(self.documents),
            "queries": len(self.judged[split].asked),
            "flaws": self.flaws,
        }

    @property
    def checksum(self) -> str:
        """Of all content: texts, judgements, and the order of both."""
        judged = {split: one.checksum for split, one in self.judged.items()}
        return key_of([self.documents.checksum, self.queries.checksum, judged])


def judge(place: Place, name: str, split: str, documents: Texts, queries: Texts) -> Judged:
    """Judgements of a split out of the file `name` of a place, and what is odd in them.

    What published collections do is counted. A passage that is not there stays judged: it is
    relevant and never found, as in trec_eval. Left out are judgements of queries that are not
    there, and queries without a relevant passage, which cannot be scored. Of a pair that is judged
    twice the highest grade counts. Raises `UserError` where no judgement can be used.
    """
    listed = list(place.judgements(name, split))
    qrels, flaws = _checked(listed, place.where(name), documents, queries)
    return Judged.of(qrels, documents, queries, flaws)


def _checked(
    judged: list[Judgement], name: str, documents: Texts, queries: Texts
) -> tuple[Qrels, Flaws]:
    def there(what: str, texts: Texts, ids: list[str]) -> set[str]:
        """Those of the ids that have a text."""
        found = {i for i, row in zip(ids, texts.rows(ids), strict=True) if row >= 0}
        if ids and not found:
            raise UserError(
                f"{name}: none of its {len(ids)} judgements names a {what} that is there, the "
                f"first one {shortened(ids[0])}: take the {what} texts that belong to the file."
            )
        return found

    known_queries = there("query", queries, [query for query, _, _ in judged])
    passages = there("document", documents, [document for _, document, _ in judged])
    qrels: Qrels = {}
    flaws = dict.fromkeys(("judged_twice", "missing_passages", "missing_queries"), 0)
    for query, document, grade in judged:
        if query not in known_queries:
            flaws["missing_queries"] += 1
            continue
        grades = qrels.setdefault(query, {})
        if document in grades:
            flaws["judged_twice"] += 1
        elif document not in passages:
            flaws["missing_passages"] += 1
        grades[document] = max(grade, grades.get(document, grade))
    relevant = {query: grades for query, grades in qrels.items() if max(grades.values()) > 0}
    if not relevant:
        raise UserError(f"{name} holds no relevant document: every grade is 0 or less.")
    if not any(g > 0 and d in passages for grades in relevant.values() for d, g in grades.items()):
        raise UserError(
            f"{name}: none of the documents that it calls relevant is there: take the document "
            "texts that belong to the file."
        )
    lost = (len(grades) for query, grades in qrels.items() if query not in relevant)
    return relevant, flaws | {"nothing_relevant": sum(lost)}


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
