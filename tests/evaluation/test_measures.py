"""Measures against trec_eval and by hand."""

import numpy as np
import pytest
import pytrec_eval

from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.retrieval.runs import Run, by_rule_of_ties

TREC_NAMES = {
    "nDCG@10": "ndcg_cut_10",
    "nDCG@100": "ndcg_cut_100",
    "Recall@20": "recall_20",
    "MAP@1000": "map_cut_1000",
}


def random_run_and_qrels(seed: int) -> tuple[Run, dict[str, dict[str, int]]]:
    """Heavily tied scores, unsorted query ids, grades -1 to 3 and lists of all lengths."""
    generator = np.random.default_rng(seed)
    names = np.array([f"d{number}" for number in range(120)])
    run: Run = {}
    qrels: dict[str, dict[str, int]] = {}
    for number in generator.permutation(30):
        query_id = f"q{number}"
        found = generator.choice(names, generator.integers(0, 100), replace=False).tolist()
        run[query_id] = [(name, float(generator.integers(0, 4))) for name in found]
        judged = generator.choice(names, generator.integers(1, 40), replace=False).tolist()
        qrels[query_id] = {name: int(generator.integers(-1, 4)) for name in judged}
    qrels["q0"] = dict.fromkeys(qrels["q0"], 0)
    run["q1"] = []
    del run["q2"]
    run["unjudged"] = [("d1", 1.0)]
    return run, qrels


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_trec_eval_per_query(seed: int) -> None:
    run, qrels = random_run_and_qrels(seed)
    by_rank = {
        query_id: {
            document_id: float(len(hits) - rank)
            for rank, (document_id, _) in enumerate(by_rule_of_ties(hits))
        }
        for query_id, hits in run.items()
    }
    measures = {"ndcg_cut.10,100", "recall.20", "map_cut.1000"}
    expected = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(by_rank)
    values = evaluate(run, qrels, list(TREC_NAMES))
    for measure, trec_name in TREC_NAMES.items():
        assert list(values[measure]) == list(qrels)
        for query_id in qrels:
            reference = expected.get(query_id, {}).get(trec_name, 0.0)
            assert values[measure][query_id] == pytest.approx(reference, abs=1e-12), query_id


def test_missing_query_counts_zero() -> None:
    values = evaluate({"a": [("x", 1.0)]}, {"a": {"x": 1}, "b": {"x": 1}}, ["nDCG@10", "MAP@10"])
    assert values == {"nDCG@10": {"a": 1.0, "b": 0.0}, "MAP@10": {"a": 1.0, "b": 0.0}}
    assert mean(values) == {"nDCG@10": 0.5, "MAP@10": 0.5}


def test_reciprocal_rank_by_hand() -> None:
    ranked = [(f"d{rank:02}", 20.0 - rank) for rank in range(1, 13)]
    run = dict.fromkeys(("first", "third", "tenth", "eleventh", "zero grade"), ranked)
    qrels = {
        "first": {"d01": 1, "d02": 1},
        "third": {"d03": 2, "d01": 0, "d09": 1},
        "tenth": {"d10": 1},
        "eleventh": {"d11": 1},
        "zero grade": {"d01": 0},
    }
    expected = {"first": 1, "third": 1 / 3, "tenth": 0.1, "eleventh": 0, "zero grade": 0}
    assert evaluate(run, qrels, ["MRR@10"])["MRR@10"] == pytest.approx(expected)


def test_ties_rank_by_document_id() -> None:
    run = {"q": [("d9", 1.0), ("d10", 1.0)]}
    assert evaluate(run, {"q": {"d10": 1}}, ["MRR@10"])["MRR@10"] == {"q": 1.0}
    assert evaluate(run, {"q": {"d9": 1}}, ["MRR@10"])["MRR@10"] == {"q": 0.5}


def test_gain_is_linear() -> None:
    run = {"q": [("a", 2.0), ("b", 1.0)]}
    value = evaluate(run, {"q": {"a": 1, "b": 3}}, ["nDCG@10"])["nDCG@10"]["q"]
    discount = 1 / np.log2(3)
    assert value == pytest.approx((1 + 3 * discount) / (3 + 1 * discount))


def test_nothing_found() -> None:
    assert evaluate({}, {"q": {"d": 1}}, ["Recall@5"]) == {"Recall@5": {"q": 0.0}}
    assert evaluate({"q": []}, {"q": {"d": 1}}, ["Recall@5"]) == {"Recall@5": {"q": 0.0}}


@pytest.mark.parametrize("measure", ["ndcg@10", "nDCG", "nDCG@0", "nDCG@x", "P@10", ""])
def test_unknown_measure_lists_the_known(measure: str) -> None:
    with pytest.raises(ValueError, match="nDCG@K, MRR@K, Recall@K, MAP@K"):
        evaluate({}, {}, [measure])


def test_mean_of_no_queries() -> None:
    with pytest.raises(ValueError):
        mean({"nDCG@10": {}})
