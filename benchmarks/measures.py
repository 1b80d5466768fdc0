"""Measures of a run in memory, against dictionaries and pytrec_eval.

`python -m benchmarks.measures`; the defaults have the size of MS MARCO's development queries.
"""

import argparse

import numba
import numpy as np
import pytrec_eval

from benchmarks import interleaved
from lion_sweep.evaluation.measures import evaluate
from lion_sweep.search.runs import Run

TREC_NAMES = {
    "nDCG@10": "ndcg_cut_10",
    "MRR@10": "recip_rank",
    "Recall@100": "recall_100",
    "Recall@1000": "recall_1000",
}
Values = dict[str, dict[str, float]]
Qrels = dict[str, dict[str, int]]


def synthetic(queries: int, hits: int, documents: int) -> tuple[Run, Qrels]:
    """Distinct random hits with falling scores, 1.07 relevant documents a query, 80 % found."""
    random = np.random.default_rng(0)
    ids = [f"{number:08}" for number in range(documents)]
    # Steps through the documents from a random start are distinct, and quick to draw.
    start_Q1 = random.integers(0, documents, (queries, 1))
    documents_QK = ((start_Q1 + np.arange(hits) * 7919) % documents).astype(np.int32)
    scores_QK = np.sort(random.random((queries, hits)), axis=1)[:, ::-1]
    scores_QK = (scores_QK - np.arange(hits)).astype(np.float32)  # no ties in float32
    names = [str(number) for number in random.permutation(1_200_000)[:queries]]
    qrels: Qrels = {}
    for row, name in enumerate(names):
        judged = 1 + int(random.random() < 0.07)
        ranks = (hits ** random.random(judged) - 1).astype(int)  # mostly near the top
        found = random.random(judged) < 0.8
        elsewhere = random.integers(0, documents, judged)
        relevant = np.where(found, documents_QK[row, ranks], elsewhere)
        qrels[name] = {ids[number]: 1 for number in relevant}
    return Run(names, ids, documents_QK, scores_QK), qrels


def by_pytrec_eval(run: Run, qrels: Qrels) -> Values:
    """Dictionaries, then trec_eval; its reciprocal rank has no cut, so that is made here."""
    hits = {
        query_id: dict(zip(map(run.document_ids.__getitem__, documents_K), scores_K, strict=True))
        for query_id, documents_K, scores_K in zip(
            run.query_ids, run.documents_QK.tolist(), run.scores_QK.tolist(), strict=True
        )
    }
    measures = {"ndcg_cut.10", "recip_rank", "recall.100,1000"}
    found = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(hits)
    values = {
        measure: {query_id: found[query_id][name] for query_id in qrels}
        for measure, name in TREC_NAMES.items()
    }
    values["MRR@10"] = {
        query_id: value if value > 1 / 10.5 else 0.0 for query_id, value in values["MRR@10"].items()
    }
    return values


def main() -> None:
    """Check that both sides agree, then time them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=6_980)
    parser.add_argument("--hits", type=int, default=1_000)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    run, qrels = synthetic(options.queries, options.hits, options.documents)
    ours, theirs = evaluate(run, qrels, list(TREC_NAMES)), by_pytrec_eval(run, qrels)
    apart = max(
        abs(ours[measure][query_id] - theirs[measure][query_id])
        for measure in TREC_NAMES
        for query_id in qrels
    )
    if apart > 1e-9:
        raise SystemExit(f"The sides differ by up to {apart}: nothing was timed.")
    measured = interleaved.seconds(
        {
            "arrays": lambda: evaluate(run, qrels, list(TREC_NAMES)),
            "dictionaries + pytrec_eval": lambda: by_pytrec_eval(run, qrels),
        },
        options.rounds,
    )
    interleaved.report(
        measured,
        checked=f"4 measures of {len(qrels)} queries, largest difference {apart:.1e}",
        packages=["numpy", "numba", "ranx", "pytrec_eval-terrier"],
        facts={**vars(options), "threads": numba.get_num_threads()},
    )


if __name__ == "__main__":
    main()
