"""Runs: ranked hits of every query as arrays, and the files that hold them.

One rule of ties holds in the whole project: score descending, then document id ascending,
compared as strings.

Shapes: N documents, Q queries, K hits kept per query, M hits in a list.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.files import written

Hits = list[tuple[str, float]]  # (document id, score) pairs, best first
Ranked = tuple[NDArray[np.integer], NDArray[np.floating]]  # documents' numbers and scores, [M] each
NO_HIT = -1


@dataclass(frozen=True, eq=False)
class Run:
    """Hits of queries, best first under the rule of ties.

    Two are equal when the same queries, in the same order, have the same hits with the same scores;
    documents without hits do not count.
    """

    query_ids: Sequence[str]  # [Q], distinct
    document_ids: Sequence[str]  # distinct, ascending; a document's number is its place here
    documents_QK: NDArray[np.int32]  # numbers of the hits; -1 after the last hit of a query
    scores_QK: NDArray[np.floating[Any]]  # float32 or float64; -inf after the last hit

    @classmethod
    def stacked(
        cls, query_ids: Sequence[str], document_ids: Sequence[str], rows: Sequence[Ranked]
    ) -> "Run":
        """Build from the hits of every query, each best first."""
        width = max((len(documents_M) for documents_M, _ in rows), default=0)
        dtype = np.result_type(np.float32, *(scores_M.dtype for _, scores_M in rows))
        documents_QK = np.full((len(rows), width), NO_HIT, dtype=np.int32)
        scores_QK = np.full((len(rows), width), -np.inf, dtype=dtype)
        for row, (documents_M, scores_M) in enumerate(rows):
            documents_QK[row, : len(documents_M)] = documents_M
            scores_QK[row, : len(scores_M)] = scores_M
        return cls(list(query_ids), document_ids, documents_QK, scores_QK)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {query_id: row for row, query_id in enumerate(self.query_ids)}

    def rows(self, query_ids: Iterable[str]) -> NDArray[np.int64]:
        """Return the row of each query, -1 for those outside the run."""
        return np.array([self._rows.get(query_id, -1) for query_id in query_ids], dtype=np.int64)

    def hits(self, query_id: str) -> Hits:
        """Return the hits of one query; KeyError for a query outside the run."""
        row = self._rows[query_id]
        documents_K = self.documents_QK[row]
        count = int(np.count_nonzero(documents_K != NO_HIT))
        found = map(self.document_ids.__getitem__, documents_K[:count].tolist())
        return list(zip(found, self.scores_QK[row, :count].tolist(), strict=True))

    def compacted(self) -> "Run":
        """Return an equal run whose `document_ids` are its hits alone, without unused columns."""
        is_hit_N = np.zeros(len(self.document_ids) + 1, dtype=bool)
        is_hit_N[self.documents_QK] = True  # the place after the last document is that of NO_HIT
        used_M = np.flatnonzero(is_hit_N[:-1])
        number_N = np.full(len(is_hit_N), NO_HIT, dtype=np.int32)
        number_N[used_M] = np.arange(len(used_M))
        documents_QK = number_N[self.documents_QK]
        width = int((documents_QK != NO_HIT).sum(axis=1).max(initial=0))
        return replace(
            self,
            document_ids=[self.document_ids[number] for number in used_M.tolist()],
            documents_QK=documents_QK[:, :width],
            scores_QK=self.scores_QK[:, :width],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run):
            return NotImplemented
        one, two = self.compacted(), other.compacted()
        return (
            list(one.query_ids) == list(two.query_ids)
            and one.document_ids == two.document_ids
            and np.array_equal(one.documents_QK, two.documents_QK)
            and np.array_equal(one.scores_QK, two.scores_QK)
        )

    def save(self, path: Path) -> None:
        """Write numbers, scores and the ids of queries and hits to an .npz, whole or not at all."""
        run = self.compacted()
        with written(path, only_writer=True) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                query_ids=_as_bytes(run.query_ids),
                document_ids=_as_bytes(run.document_ids),
                documents_QK=run.documents_QK,
                scores_QK=run.scores_QK,
            )

    @classmethod
    def load(cls, path: Path) -> "Run":
        """Read an equal run, with scores of the same type."""
        with np.load(path) as arrays:
            return cls(
                query_ids=json.loads(arrays["query_ids"].tobytes()),
                document_ids=json.loads(arrays["document_ids"].tobytes()),
                documents_QK=arrays["documents_QK"],
                scores_QK=arrays["scores_QK"],
            )


def _as_bytes(ids: Sequence[str]) -> NDArray[np.uint8]:
    # As JSON text: numpy would pad every id to the longest and take 4 bytes a character.
    return np.frombuffer(json.dumps(list(ids)).encode(), dtype=np.uint8)


def place_of(document_id: str, document_ids: Sequence[str]) -> int:
    """The place of an id among ids in ascending order, -1 where it is not one of them."""
    place = bisect_left(document_ids, document_id)
    known = place < len(document_ids) and document_ids[place] == document_id
    return place if known else NO_HIT


def drop_self_hits(run: Run) -> Run:
    """Return the run without hits whose document id equals the query id.

    BEIR evaluates this way (Thakur et al., 2021): in collections such as ArguAna and Quora the
    queries are themselves documents.
    """
    self_Q = np.array([place_of(query_id, run.document_ids) for query_id in run.query_ids], int)
    is_self_QK = (run.documents_QK == self_Q[:, None]) & (self_Q[:, None] != NO_HIT)
    if not is_self_QK.any():
        return run
    # The hit goes to the end of its row, all others keep their order.
    order_QK = np.argsort(is_self_QK, axis=1, kind="stable")
    documents_QK, scores_QK = (
        np.take_along_axis(np.where(is_self_QK, nothing, of_hits_QK), order_QK, axis=1)
        for nothing, of_hits_QK in ((NO_HIT, run.documents_QK), (-np.inf, run.scores_QK))
    )
    return replace(run, documents_QK=documents_QK, scores_QK=scores_QK)


def write_trec(run: Run, path: Path, tag: str) -> None:
    """Write the run as a TREC file: query id, "Q0", document id, rank from 1, score, tag.

    The file appears whole or not at all, and its scores read back exactly. The format has no
    line for a query without hits, so such queries are absent when the file is read.

    Raises `ValueError` for an id or tag that is empty or holds white space, or an infinite score.
    """
    run = run.compacted()
    for column in (*run.query_ids, *run.document_ids, tag):
        if column.split() != [column]:
            raise ValueError(f"{column!r} cannot be a TREC column: empty or with white space")
    if not np.isfinite(run.scores_QK[run.documents_QK != NO_HIT]).all():
        raise ValueError("a score is not finite")
    with (
        written(path, only_writer=True) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        for query_id in run.query_ids:
            file.writelines(
                f"{query_id} Q0 {document_id} {rank} {score!r} {tag}\n"
                for rank, (document_id, score) in enumerate(run.hits(query_id), start=1)
            )
