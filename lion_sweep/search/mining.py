"""Hard negatives by BM25, some thousands of queries at a time.

Shapes: N documents, J judgements, Q queries of a batch, P training pairs, K hits, M negatives.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lion_sweep.data.collection import Collection, Flaws
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.data.ids import Ids
from lion_sweep.data.texts import Texts
from lion_sweep.errors import UserError
from lion_sweep.search.bm25 import BM25Index, build

QUERIES = 8192  # searched together


@dataclass(frozen=True)
class Judged:
    """Judgements in the order of training pairs, those of a query together, each pair once."""

    query_J: NDArray[np.integer]  # rows
    document_J: NDArray[np.integer]  # rows; -1 of documents that are not there
    grade_J: NDArray[np.integer]

    @property
    def start_Q(self) -> NDArray[np.int64]:
        """The first judgement of every query, and the end."""
        changes = np.flatnonzero(np.diff(self.query_J)) + 1
        return np.concatenate([[0], changes, [len(self.query_J)]])

    @property
    def batches(self) -> int:
        return -(-(len(self.start_Q) - 1) // QUERIES)


def batches(
    index: BM25Index, queries: Texts, judged: Judged, depth: int, first: int = 0
) -> Iterator[tuple[Groups, Flaws]]:
    """The groups of each batch of queries, from the `first` batch on, and what is left out.

    Negatives are the first `depth` BM25 hits of a query that are not judged relevant to it, nor
    the query itself, where queries are passages too. Left out are pairs whose positive is not
    there, or whose query has no such hit.
    """
    start_Q, order_N = judged.start_Q, index.ids.order_N
    asked = judged.query_J[start_Q[:-1]]
    self_Q = index.ids.rows(Ids(queries.ids.array.take(asked)))
    for batch in range(first, judged.batches):
        own = slice(batch * QUERIES, (batch + 1) * QUERIES)
        of_batch = index.queries(queries.take(asked[own]))
        ranks_QK, scores_QK = index.postings.search(of_batch, depth, index.ids.rank_N)
        starts = start_Q[own.start : own.stop + 1]
        document_J = judged.document_J[starts[0] : starts[-1]]
        positive_J = judged.grade_J[starts[0] : starts[-1]] > 0
        asked_J = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        known_J = positive_J & (document_J >= 0)
        query_P, positive_P = asked_J[known_J], document_J[known_J].astype(np.int32)
        hit_QK = np.where(ranks_QK < 0, MISSING, order_N[ranks_QK]).astype(np.int32)
        score_QK = scores_QK.astype(np.float32)
        positive_start_Q = np.searchsorted(query_P, np.arange(len(starts)))
        _leave_negatives(hit_QK, score_QK, self_Q[own], positive_start_Q, positive_P)
        usable_P = (hit_QK[:, 0] != MISSING)[query_P]
        flaws = {
            "missing_positives": int(positive_J.sum() - known_J.sum()),
            "without_negatives": int((~usable_P).sum()),
        }
        score_P = index.postings.scores(of_batch, query_P, positive_P)[usable_P]
        query_P, positive_P = query_P[usable_P], positive_P[usable_P]
        negatives = (_wide(part_QK, depth)[query_P] for part_QK in (hit_QK, score_QK))
        rows_P = asked[own][query_P].astype(np.int32)
        negative_PM, score_PM = negatives
        yield Groups(rows_P, positive_P, negative_PM, score_P, score_PM), flaws


@njit(cache=True)
def _leave_negatives(hit_QK, score_QK, self_Q, start_Q, positive_P):  # type: ignore[no-untyped-def]
    """Take the query itself and positives out of hits, in place; the others move up."""
    for query in range(len(hit_QK)):
        own = positive_P[start_Q[query] : start_Q[query + 1]]
        kept = 0
        for place in range(hit_QK.shape[1]):
            hit, score = hit_QK[query, place], score_QK[query, place]
            hit_QK[query, place], score_QK[query, place] = MISSING, 0
            wanted = hit != MISSING and hit != self_Q[query]
            for positive in own:
                wanted &= hit != positive
            if wanted:
                hit_QK[query, kept], score_QK[query, kept] = hit, score
                kept += 1


def _wide(part_QK: NDArray, depth: int) -> NDArray:
    """Columns for `depth` hits, where there are fewer documents."""
    empty = MISSING if np.issubdtype(part_QK.dtype, np.integer) else 0
    return np.pad(part_QK, ((0, 0), (0, depth - part_QK.shape[1])), constant_values=empty)


def joined(parts: Iterable[tuple[Groups, Flaws]], split: str) -> tuple[Groups, Flaws]:
    """The groups of all batches. Raises `UserError` where none has a negative."""
    groups, flaws = zip(*parts, strict=True)
    if not any(map(len, groups)):
        raise UserError(
            f"No query of the split {split!r} has a BM25 hit besides its positives, so there is "
            "nothing to train against: the collection is too small, or its texts share no words."
        )
    whole = {name: np.concatenate([vars(g)[name] for g in groups]) for name in vars(groups[0])}
    counted = {name: sum(flaw[name] for flaw in flaws) for name in flaws[0]}
    return Groups(**whole), counted


def mine(collection: Collection, split: str, depth: int, folder: Path) -> tuple[Groups, Flaws]:
    """The groups of a split of a collection; the index is built in `folder`."""
    documents, qrels = collection.documents, collection.qrels[split]
    build(folder, documents)
    index = BM25Index(documents.ids, folder)
    asked = np.repeat(collection.queries.rows(list(qrels)), [len(g) for g in qrels.values()])
    found = documents.rows([document for grades in qrels.values() for document in grades])
    grades = np.array([grade for grades in qrels.values() for grade in grades.values()])
    judged = Judged(asked, found, grades)
    return joined(batches(index, collection.queries, judged, depth), split)
