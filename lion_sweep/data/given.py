"""Training groups that come with a collection: one JSON object per line, in any of these forms.

    {question, pos_pid, neg_pids[, pos_score, neg_scores]}   the files of the Lion study
    {query, docids, scores}                                  the same, the first document relevant
    {query_id, document_ids, scores}                         PyLate's, the first document relevant
    {qid, pos, neg: {system: ids}}                           sentence-transformers' hard negatives
    {query_id, positive_passages, negative_passages}         Tevatron's, with or without scores

Queries are named by their id or by their text, documents by their ids, as strings or numbers.
Shapes: P training pairs, M negatives.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from reprlib import repr as shortened
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data.collection import Collection, Flaws
from lion_sweep.data.forms import Line, identifier, record_of, shown, whole, wrong
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import UserError

LARGEST = float(np.finfo(np.float32).max)


class Group(NamedTuple):
    """A query by id or by text, its positive, its negatives with their scores; NaN: not given."""

    at: str  # file:line
    query: str
    by_text: bool
    positive: str
    positive_score: float
    negatives: list[tuple[str, float]]


def read(lines: Iterable[Line], collection: Collection, depth: int) -> tuple[Groups, Flaws]:
    """Groups of (file:line, JSON) pairs, with the first `depth` negatives of each, and the flaws.

    No positive of a query, in whatever line it stands, is a negative of it; groups without a
    negative are left out. Raises `UserError` for a line of no known form, for queries or documents
    that are not in the collection, and where some groups have scores and others none.
    """
    told = [group for at, line in lines for group in groups_in(record_of(line, at), at)]
    asked, positives = _queries(collection, told), defaultdict[int, set[str]](set)
    for query, group in zip(asked, told, strict=True):
        positives[query].add(group.positive)
    query_P, found, flaws = [], [], {"positives_among_negatives": 0, "without_negatives": 0}
    for query, group in zip(asked, told, strict=True):
        left = [negative for negative in group.negatives if negative[0] not in positives[query]]
        flaws["positives_among_negatives"] += len(group.negatives) - len(left)
        flaws["without_negatives"] += not left
        if left:
            query_P.append(query)
            found.append(group._replace(negatives=left[:depth]))
    if not found:
        raise UserError("data.groups holds no group with a negative: there is nothing to train on.")
    negative_PM = np.full((len(found), depth), MISSING, dtype=np.int32)
    score_PM = np.zeros((len(found), depth), dtype=np.float32)
    place_PM = np.arange(depth) < np.array([len(group.negatives) for group in found])[:, None]
    named = [(group.at, *negative) for group in found for negative in group.negatives]
    negative_PM[place_PM] = _documents(collection, [(at, document) for at, document, _ in named])
    score_PM[place_PM] = [score for _, _, score in named]
    positive_score_P = np.array([group.positive_score for group in found], dtype=np.float32)
    scored_P = np.isfinite(positive_score_P)
    if scored_P.any() != scored_P.all():
        raise UserError(
            f"{found[int(np.argmin(scored_P))].at} has no scores, and {int(scored_P.sum())} of "
            f"{len(found)} groups have: all or none of those in data.groups."
        )
    groups = Groups(
        query_P=np.array(query_P, dtype=np.int32),
        positive_P=_documents(collection, [(group.at, group.positive) for group in found]),
        negative_PM=negative_PM,
        positive_score_P=positive_score_P,
        negative_score_PM=score_PM,
    )
    return groups, flaws


def groups_in(record: dict[str, Any], at: str) -> Iterator[Group]:
    """The groups of a line, one per positive. Raises `UserError` for a line of no known form."""
    try:
        if "pos_pid" in record:
            listed = [record["pos_pid"], *record["neg_pids"]]
            scores = [record["pos_score"], *record["neg_scores"]] if "pos_score" in record else None
            yield _group((record["question"], True), listed, scores, at)
        elif "docids" in record:
            yield _group((record["query"], True), record["docids"], record["scores"], at)
        elif "document_ids" in record:
            yield _group((record["query_id"], False), record["document_ids"], record["scores"], at)
        elif "positive_passages" in record:
            negatives = record["negative_passages"]
            for positive in record["positive_passages"]:
                passages = [positive, *negatives]
                scores = [p["score"] for p in passages] if "score" in positive else None
                listed = [p["docid"] for p in passages]
                yield _group((record["query_id"], False), listed, scores, at)
        elif "pos" in record and isinstance(record.get("neg"), dict):
            negatives = list(dict.fromkeys(i for ids in record["neg"].values() for i in ids))
            for positive in record["pos"]:
                yield _group((record["qid"], False), [positive, *negatives], None, at)
        else:
            raise UserError(
                f"{at} has the keys {shown(record)}, which are those of no known "
                "form of training groups: see lion_sweep/data/given.py."
            )
    except KeyError as key:
        raise UserError(f"{at} cannot be read as a training group: it has no {key}.") from None
    except (TypeError, AttributeError) as error:  # a list where an object is meant, or so
        raise UserError(f"{at} cannot be read as a training group ({error}).") from None


def _group(query: tuple[Any, bool], listed: Any, scores: Any, at: str) -> Group:
    """Of a query with whether it is named by its text; the first of `listed` is the positive."""
    named, by_text = query
    for value, what in ((listed, "documents"), ([] if scores is None else scores, "scores")):
        if not isinstance(value, list):
            wrong(at, f"what should list {what}", value, "a list")
    if scores is not None and len(scores) != len(listed):
        raise UserError(
            f"{at} has {len(scores)} scores of {len(listed)} documents: give each its own, or "
            "leave out the scores of all groups in data.groups."
        )
    if not listed:
        raise UserError(f"{at} names no document, and the first has to be the relevant one.")
    if by_text and not isinstance(named, str):
        wrong(at, "the query", named, "text")
    asked = whole(named).strip() if by_text else identifier(named, at, "the query's id")
    numbers = [math.nan] * len(listed) if scores is None else [_score(s, at) for s in scores]
    positive, *negatives = (identifier(i, at, "a document's id") for i in listed)
    pairs = list(zip(negatives, numbers[1:], strict=True))
    return Group(at, asked, by_text, positive, numbers[0], pairs)


def _score(value: Any, at: str) -> float:
    """A number that float32 can hold, so that no step finds out that it cannot."""
    if type(value) not in (int, float) or not abs(value) <= LARGEST:
        wrong(at, "a score", value, "a finite number")
    return float(value)


def _queries(collection: Collection, groups: list[Group]) -> list[int]:
    """Their rows, each by its id or its text as its line says: lines of several forms may mix."""
    by_text = any(group.by_text for group in groups)
    row = {text: n for n, text in enumerate(collection.queries.all() if by_text else ())}
    named = [group.query for group in groups]
    by_id_P = collection.queries.rows(named).tolist()
    row_P = [
        row.get(group.query, -1) if group.by_text else by_id
        for group, by_id in zip(groups, by_id_P, strict=True)
    ]
    told = [(group.at, group.query) for group in groups]
    return _checked(np.array(row_P, dtype=np.int64), "query", told).tolist()


def _documents(collection: Collection, named: list[Line]) -> NDArray[np.int32]:
    rows = collection.documents.rows([document for _, document in named])
    return _checked(rows, "document", named)


def _checked(rows: NDArray[np.int64], what: str, named: list[Line]) -> NDArray[np.int32]:
    nowhere = np.flatnonzero(rows < 0)
    if nowhere.size:
        at, name = named[nowhere[0]]
        raise UserError(
            f"{at} names a {what} that is not in the collection, {shortened(name)}, as happens "
            f"{nowhere.size} of {len(named)} times: take the files that belong together."
        )
    return rows.astype(np.int32)
