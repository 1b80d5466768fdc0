"""Training groups that come with a collection: one JSON object per line, in any of these forms.

    {question, pos_pid, neg_pids[, pos_score, neg_scores]}   the files of the Lion study
    {query, docids, scores}                                  the same, the first document relevant
    {query_id, document_ids, scores}                         PyLate's, the first document relevant
    {qid, pos, neg: {system: ids}}                           sentence-transformers' hard negatives
    {query_id, positive_passages, negative_passages}         Tevatron's, with or without scores

Queries are named by their id or by their text, documents by their ids, as strings or numbers.
Shapes: P training pairs, M negatives.
"""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data.collection import Collection
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import UserError


class Group(NamedTuple):
    """A query by id or by text, its positive, its negatives; scores not given are NaN."""

    query: str
    by_text: bool
    positive: str
    negatives: list[str]
    positive_score: float
    negative_scores: list[float]


def read(lines: Iterable[tuple[str, str]], collection: Collection, depth: int) -> Groups:
    """Groups of (file:line, JSON) pairs, with the first `depth` negatives of each.

    Raises `UserError` for a line of no known form, for queries or documents that are not in the
    collection, and where some groups have scores and others none.
    """
    groups = (group for at, line in lines for group in _groups(line, at))
    found = [group for group in groups if group.negatives]
    if not found:
        raise UserError("data.groups holds no group with a negative: there is nothing to train on.")
    negative_PM = np.full((len(found), depth), MISSING, dtype=np.int32)
    score_PM = np.zeros((len(found), depth), dtype=np.float32)
    cut = [group.negatives[:depth] for group in found]
    place_PM = np.arange(depth) < np.array([len(listed) for listed in cut])[:, None]
    negative_PM[place_PM] = _documents(collection, [i for listed in cut for i in listed])
    score_PM[place_PM] = [s for group in found for s in group.negative_scores[:depth]]
    positive_score_P = np.array([group.positive_score for group in found], dtype=np.float32)
    scored_P = np.isfinite(positive_score_P)
    if scored_P.any() != scored_P.all():
        raise UserError(
            f"data.groups: {int(scored_P.sum())} of {len(found)} groups have scores: all or none."
        )
    return Groups(
        query_P=_queries(collection, found),
        positive_P=_documents(collection, [group.positive for group in found]),
        negative_PM=negative_PM,
        positive_score_P=positive_score_P,
        negative_score_PM=score_PM,
    )


def _groups(line: str, at: str) -> Iterator[Group]:
    """The groups of a line, one per positive."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{at} is not JSON: {error.msg}.") from None
    if not isinstance(record, dict):
        raise UserError(f"{at} is not a JSON object.")
    try:
        if "pos_pid" in record:
            listed = [record["pos_pid"], *record["neg_pids"]]
            scores = [record["pos_score"], *record["neg_scores"]] if "pos_score" in record else None
            yield _group(record["question"], True, listed, scores)
        elif "docids" in record:
            yield _group(record["query"], True, record["docids"], record["scores"])
        elif "document_ids" in record:
            yield _group(record["query_id"], False, record["document_ids"], record["scores"])
        elif "positive_passages" in record:
            negatives = record["negative_passages"]
            for positive in record["positive_passages"]:
                passages = [positive, *negatives]
                scores = [p["score"] for p in passages] if "score" in positive else None
                yield _group(record["query_id"], False, [p["docid"] for p in passages], scores)
        elif "pos" in record and isinstance(record.get("neg"), dict):
            negatives = list(dict.fromkeys(i for ids in record["neg"].values() for i in ids))
            for positive in record["pos"]:
                yield _group(record["qid"], False, [positive, *negatives], None)
        else:
            raise UserError(
                f"{at} has the keys {', '.join(record)}, which are those of no known form of "
                "training groups: see lion_sweep/data/given.py."
            )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{at} cannot be read as a training group ({error!r}).") from None


def _group(query: Any, by_text: bool, listed: list[Any], scores: list[Any] | None) -> Group:
    """The first of `listed` is the positive."""
    numbers = [math.nan] * len(listed) if scores is None else [float(score) for score in scores]
    if len(numbers) != len(listed):
        raise ValueError(f"{len(numbers)} scores of {len(listed)} documents")
    positive, *negatives = map(str, listed)
    return Group(str(query), by_text, positive, negatives, numbers[0], numbers[1:])


def _queries(collection: Collection, groups: list[Group]) -> NDArray[np.int32]:
    named = [group.query for group in groups]
    by_text_P = np.array([group.by_text for group in groups])
    row_P = collection.queries.rows(named)
    if by_text_P.any():  # each as its line says: files of several forms may be joined
        row = {text: number for number, text in enumerate(collection.queries.all())}
        of_text_P = np.array([row.get(text.strip(), -1) for text in named])
        row_P = np.where(by_text_P, of_text_P, row_P)
    return _checked(row_P, "query", named)


def _documents(collection: Collection, ids: list[str]) -> NDArray[np.int32]:
    return _checked(collection.documents.rows(ids), "document", ids)


def _checked(rows: NDArray[np.int64], what: str, named: list[str]) -> NDArray[np.int32]:
    nowhere = np.flatnonzero(rows < 0)
    if nowhere.size:
        raise UserError(
            f"data.groups: {nowhere.size} of {len(named)} times a {what} is named that is not in "
            f"the collection, such as {named[nowhere[0]]!r}: take the files that belong together."
        )
    return rows.astype(np.int32)
