"""Reading the run files that the package writes."""

import math
from pathlib import Path

from lion_sweep.search.runs import Run


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
    return Run.of({query_id: of_query.items() for query_id, of_query in hits.items()})
