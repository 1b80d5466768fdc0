"""Runs: ranked lists per query, and their TREC file format.

One rule of ties holds in the whole project: score descending, then document id ascending,
compared as strings.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

Hits = list[tuple[str, float]]
"""(document id, score) pairs, best first."""

Run = dict[str, Hits]
"""Query id -> hits."""


def by_rule_of_ties(hits: Hits) -> Hits:
    """Return the hits ordered by score descending, then document id ascending."""
    return sorted(hits, key=lambda hit: (-hit[1], hit[0]))


def drop_self_hits(run: Run) -> Run:
    """Return the run without hits whose document id equals the query id.

    BEIR evaluates this way (Thakur et al., 2021): in collections such as ArguAna and Quora the
    queries are themselves documents.
    """
    return {query_id: [hit for hit in hits if hit[0] != query_id] for query_id, hits in run.items()}


def write_trec(run: Run, path: str | os.PathLike[str], tag: str) -> None:
    """Write the run as a TREC file: query id, "Q0", document id, rank from 1, score, tag.

    The file appears whole or not at all, and its scores read back exactly. The format has no
    line for a query without hits, so such queries are absent when the file is read.

    Raises:
        ValueError: an id or the tag is empty or holds white space, or a score is not finite.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for query_id, hits in run.items():
                for rank, (document_id, score) in enumerate(hits, start=1):
                    for column in (query_id, document_id, tag):
                        if column.split() != [column]:
                            raise ValueError(
                                f"{column!r} cannot be a TREC column: empty or with white space"
                            )
                    if not math.isfinite(score):
                        raise ValueError(f"query {query_id}, document {document_id}: score {score}")
                    file.write(f"{query_id} Q0 {document_id} {rank} {float(score)!r} {tag}\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_trec(path: str | os.PathLike[str]) -> Run:
    """Read a TREC run file; hits are ordered by the rule of ties, whatever their rank column says.

    Raises:
        ValueError: naming file and line, for a line without six columns, a score that is not a
            finite number, or a document listed twice for a query.
    """
    scores: dict[str, dict[str, float]] = {}
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            columns = line.split()
            if len(columns) != 6:
                raise ValueError(f"{path}:{number}: {len(columns)} columns, a TREC run has 6")
            query_id, _, document_id, _, text, _ = columns
            try:
                score = float(text)
            except ValueError:
                score = math.nan
            if not math.isfinite(score):
                raise ValueError(f"{path}:{number}: score {text!r} is not a finite number")
            of_query = scores.setdefault(query_id, {})
            if document_id in of_query:
                raise ValueError(
                    f"{path}:{number}: document {document_id} twice for query {query_id}"
                )
            of_query[document_id] = score
    return {
        query_id: by_rule_of_ties(list(of_query.items())) for query_id, of_query in scores.items()
    }
