"""Effectiveness measures per query, with ranx."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from statistics import fmean

from lion_sweep.errors import UserError
from lion_sweep.retrieval.runs import Run, by_rule_of_ties

_RANX_NAMES = {"nDCG": "ndcg", "MRR": "mrr", "Recall": "recall", "MAP": "map"}


def _ranx_name(measure: str) -> str:
    match = re.fullmatch(r"(\w+)@([1-9][0-9]*)", measure)
    if match is None or match[1] not in _RANX_NAMES:
        known = ", ".join(f"{name}@K" for name in _RANX_NAMES)
        raise UserError(f"unknown measure {measure!r}; known, with K a depth in ranks: {known}")
    return f"{_RANX_NAMES[match[1]]}@{match[2]}"


def evaluate(
    run: Run, qrels: Mapping[str, Mapping[str, int]], measures: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return measure -> query id -> value, for every query of the qrels.

    A query without hits, or without a relevant document, counts 0. nDCG has linear gain, as in
    trec_eval; a document is relevant when its grade is above 0.

    Args:
        run: hits per query; ordered here by the rule of ties. Queries outside the qrels are
            ignored.
        qrels: query id -> document id -> grade of relevance.
        measures: names such as "nDCG@10", "MRR@10", "Recall@100" and "MAP@1000".

    Raises:
        UserError: a measure is unknown.
    """
    names = {measure: _ranx_name(measure) for measure in measures}
    values = {measure: dict.fromkeys(qrels, 0.0) for measure in measures}
    # Only queries that can score go to ranx, which is undefined for those that cannot.
    scored = [
        query_id
        for query_id, grades in qrels.items()
        if run.get(query_id) and any(grade > 0 for grade in grades.values())
    ]
    if not scored or not measures:
        return values
    # Imported late: it takes seconds, and more when numba has to compile.
    import ranx

    # ranx compiles anew, for seconds, for every length of id it meets: equally long names avoid it.
    aliases: dict[str, str] = {}

    def alias(document_id: str) -> str:
        return aliases.setdefault(document_id, f"{len(aliases):010}")

    # ranx orders tied scores arbitrarily, so it gets ranks instead: no two are equal.
    ranx_run = ranx.Run(
        {
            query_id: {
                alias(document_id): float(len(run[query_id]) - rank)
                for rank, (document_id, _) in enumerate(by_rule_of_ties(run[query_id]))
            }
            for query_id in scored
        }
    )
    ranx_qrels = ranx.Qrels(
        {
            query_id: {alias(document_id): grade for document_id, grade in qrels[query_id].items()}
            for query_id in scored
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's, about a cast inside ranx, once per compilation
        ranx.evaluate(ranx_qrels, ranx_run, list(names.values()))
    for measure, name in names.items():
        for query_id in scored:
            values[measure][query_id] = float(ranx_run.scores[name][query_id])
    return values


def mean(per_query: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return measure -> mean over the queries.

    Raises:
        UserError: a measure has no queries.
    """
    return {measure: fmean(values.values()) for measure, values in per_query.items()}
