"""Runs out of mappings, and out of the run files that the package writes."""

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

import numpy as np

from lion_sweep.search.runs import Hits, Run


def run_of(hits: Mapping[str, Iterable[tuple[str, float]]]) -> Run:
    """The run of query id -> (document id, score) pairs in any order, each document once."""
    found = {query_id: dict(of_query) for query_id, of_query in hits.items()}
    document_ids = sorted(set(chain.from_iterable(found.values())))
    number = {document_id: place for place, document_id in enumerate(document_ids)}
    rows = []
    for scores in found.values():
        documents_M = np.array([number[document_id] for document_id in scores], dtype=np.int64)
        scores_M = np.array(list(scores.values()), dtype=np.float64)
        order_M = np.lexsort((documents_M, -scores_M))
        rows.append((documents_M[order_M], scores_M[order_M]))
    return Run.stacked(list(found), document_ids, rows)


def mapping(run: Run) -> dict[str, Hits]:
    """Query id -> hits."""
    return {query_id: run.hits(query_id) for query_id in run.query_ids}


def read_trec(path: Path) -> Run:
    """Hits are ordered by the rule of ties, whatever their rank column says.

    Raises `ValueError`, naming file and line, for a line without six columns, a score that is not a
    finite number, or a document listed twice for a query.
    """
    hits: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            where, columns = f"{path}:{number}", line.split()
            if len(columns) != 6:
                raise ValueError(f"{where}: {len(columns)} columns, a TREC run has 6")
            query_id, _, document_id, _, text, _ = columns
            try:
                score = float(text)
            except ValueError:
                score = math.nan
            if not math.isfinite(score):
                raise ValueError(f"{where}: score {text!r} is not a finite number")
            of_query = hits.setdefault(query_id, {})
            if document_id in of_query:
                raise ValueError(f"{where}: document {document_id} twice for query {query_id}")
            of_query[document_id] = score
    return run_of({query_id: of_query.items() for query_id, of_query in hits.items()})
