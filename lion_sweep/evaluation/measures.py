"""Effectiveness measures per query, by ranx's kernels on arrays.

Shapes: Q queries that can score, K hits, J judged documents of a query.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lion_sweep.errors import UserError
from lion_sweep.search.runs import NO_HIT, Run, place_of

Qrels = Mapping[str, Mapping[str, int]]

_KERNELS = {
    "nDCG": "ndcg",
    "MRR": "reciprocal_rank",
    "Recall": "recall",
    "MAP": "average_precision",
}
_FORM = re.compile(r"(\w+)@([1-9][0-9]*)(?:\(rel=([1-9][0-9]*)\))?")


class Measure(NamedTuple):
    """What a name such as "Recall@100(rel=2)" says."""

    kernel: str  # name of the function in ranx.metrics
    depth: int  # ranks looked at
    level: int  # least grade of a relevant document

    @classmethod
    def of(cls, name: str) -> "Measure":
        """Read a name; UserError for an unknown one."""
        match = _FORM.fullmatch(name)
        if match is None or match[1] not in _KERNELS or (match[1] == "nDCG" and match[3]):
            known = ", ".join(f"{known}@K" for known in _KERNELS)
            raise UserError(
                f"unknown measure {name!r}; known, with K a depth in ranks: {known}. All but nDCG "
                "may end in (rel=G), where only grades of G and above are relevant."
            )
        return cls(_KERNELS[match[1]], int(match[2]), int(match[3] or 1))


def _judged_QJ2(document_ids: Sequence[str], grades: Sequence[Mapping[str, int]]) -> NDArray:
    """[Q, J, 2] int32 (number, grade) of judged documents by falling grade, as ranx wants them."""
    judged_QJ2 = np.full((len(grades), max(map(len, grades)), 2), [NO_HIT, 0], dtype=np.int32)
    for judged_J2, of_query in zip(judged_QJ2, grades, strict=True):
        ranked = sorted(of_query.items(), key=lambda judgement: -judgement[1])
        for rank, (document_id, grade) in enumerate(ranked):
            place = place_of(document_id, document_ids)
            # One that the run does not number gets a number after its last: relevant, never found.
            judged_J2[rank] = len(document_ids) + rank if place == NO_HIT else place, grade
    return judged_QJ2


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return measure -> query id -> value, for every query of the qrels.

    A query without hits, or without a relevant document, counts 0. Judged documents that the run
    does not know are relevant and not retrieved. nDCG has linear gain, as in trec_eval; grades
    below 1 have no gain. Values are trec_eval's, but for ties: equal scores are ordered by
    document id ascending here, as in Lucene, and descending in trec_eval.

    `measures` are names such as "nDCG@10", "MRR@10", "Recall@100" and "MAP@1000". Documents are
    relevant from grade 1 on, or from another, as in "Recall@100(rel=2)", which is the rule of
    TREC's Deep Learning track for all but nDCG. Raises `UserError` for an unknown measure.
    """
    parsed = {measure: Measure.of(measure) for measure in measures}
    values = {measure: dict.fromkeys(qrels, 0.0) for measure in measures}
    rows = dict(zip(qrels, run.rows(qrels).tolist(), strict=True))
    # Only queries that can score go to ranx, which is undefined for those that cannot.
    scored = [query_id for query_id, row in rows.items() if row >= 0 and qrels[query_id]]
    if not scored or not measures or not run.documents_QK.shape[1]:
        return values
    # Imported late: it takes seconds, and more when numba has to compile.
    from ranx import metrics

    depth = max(measure.depth for measure in parsed.values())
    # ranx reads hits in their order, and of a hit the first entry alone: its document.
    hits_QK1 = run.documents_QK[[rows[query_id] for query_id in scored], :depth, None]
    judged_QJ2 = _judged_QJ2(run.document_ids, [qrels[query_id] for query_id in scored])
    for name, measure in parsed.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numba's, about a cast in ranx, once per compilation
            kernel = getattr(metrics, measure.kernel)
            found_Q = kernel(judged_QJ2, hits_QK1, measure.depth, measure.level)
        values[name].update(zip(scored, found_Q.tolist(), strict=True))
    return values


def mean(per_query: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return measure -> mean over the queries; `ValueError` for a measure without any."""
    return {measure: fmean(values.values()) for measure, values in per_query.items()}
