"""An engine: every document is scored, for the vectors of two.py.

Shapes: N documents, Q queries, D dimensions, K hits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lion_sweep.config.section import require
from lion_sweep.search.base import Engine, best, sorted_documents
from lion_sweep.search.runs import Run


class Plain(Engine):
    """[N, 2, D] in memory, `block` queries at a time."""

    exact = True

    def __init__(self, document_ids: Sequence[str], vectors: Any, block: int) -> None:
        self._ids, order_N = sorted_documents(document_ids, len(vectors))
        self._vectors, self._block = vectors[order_N], block

    @classmethod
    def check(cls, key: str, settings: Mapping[str, Any]) -> None:
        """A block of some queries."""
        require(settings["block"] > 0, f"{key}.block={settings['block']} must be greater than 0.")

    def search(self, query_ids: Sequence[str], queries: Any, k: int) -> Run:
        """The best of the four inner products of each pair."""
        rows = []
        for first in range(0, len(queries), self._block):
            part = queries[first : first + self._block]
            scores_QN = np.einsum("qid,njd->qnij", part, self._vectors).max(axis=(2, 3))
            rows += [best(np.arange(len(self._ids)), scores_N, k) for scores_N in scores_QN]
        return Run.stacked(query_ids, self._ids, rows)

    def stats(self) -> dict[str, float]:
        """Its size."""
        return {"documents": len(self._ids), "index_bytes": self._vectors.nbytes}
