"""Measures against trec_eval, by hand, and against what is published of real runs."""

import numpy as np
import pytest
import pytrec_eval
import real_collections
from support import bm25_index
from trec import mapping, run_of

from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.search.runs import Run

TREC_NAMES = {
    "nDCG@10": "ndcg_cut_10",
    "nDCG@100": "ndcg_cut_100",
    "Recall@20": "recall_20",
    "Recall@1000": "recall_1000",
    "MAP@1000": "map_cut_1000",
}
TREC_MEASURES = {"ndcg_cut.10,100", "recall.20,1000", "map_cut.1000", "recip_rank"}

Qrels = dict[str, dict[str, int]]


def in_our_order(run: Run) -> dict[str, dict[str, float]]:
    """The run for trec_eval, which breaks ties the other way: ranks instead of scores."""
    return {
        query_id: {name: float(len(hits) - rank) for rank, (name, _) in enumerate(hits)}
        for query_id, hits in mapping(run).items()
    }


def check_against_trec_eval(run: Run, qrels: Qrels) -> dict[str, dict[str, float]]:
    """Values of our measures, after every query's were compared with trec_eval's."""
    by_level = {
        level: pytrec_eval.RelevanceEvaluator(qrels, TREC_MEASURES, relevance_level=level).evaluate(
            in_our_order(run)
        )
        for level in (1, 2)
    }
    values = evaluate(
        run,
        qrels,
        [*TREC_NAMES, "MRR@1000", "Recall@20(rel=2)", "MAP@1000(rel=2)", "MRR@1000(rel=2)"],
    )
    for measure, of_queries in values.items():
        name, _, level = measure.partition("(rel=")
        expected = by_level[int(level[:-1]) if level else 1]
        trec_name = TREC_NAMES.get(name, "recip_rank")
        assert list(of_queries) == list(qrels)
        for query_id, value in of_queries.items():
            reference = expected.get(query_id, {}).get(trec_name, 0.0)
            assert value == pytest.approx(reference, abs=1e-9), (measure, query_id)
    return values


def random_run_and_qrels(seed: int) -> tuple[Run, Qrels]:
    """Heavily tied scores, unsorted query ids, grades -1 to 3 and lists of all lengths."""
    generator = np.random.default_rng(seed)
    names = np.array([f"d{number}" for number in range(120)])
    run: dict[str, list[tuple[str, float]]] = {}
    qrels: Qrels = {}
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
    qrels["q3"] |= {f"unknown to the run {number}": 1 for number in range(3)}
    return run_of(run), qrels


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_trec_eval_per_query(seed: int) -> None:
    run, qrels = random_run_and_qrels(seed)
    assert evaluate(run, qrels, ["Recall@1000"])["Recall@1000"]["q2"] == 0  # not in the run
    check_against_trec_eval(run, qrels)


def test_ties_are_trec_evals_the_other_way_round() -> None:
    """Equal scores: ids ascend here and descend in trec_eval; nothing else differs."""
    run = run_of({"q": [("d9", 1.0), ("d10", 1.0), ("d7", 2.0)]})
    qrels = {"q": {"d10": 1, "d7": 0}}
    assert run.hits("q") == [("d7", 2.0), ("d10", 1.0), ("d9", 1.0)]
    assert evaluate(run, qrels, ["MRR@10"]) == {"MRR@10": {"q": 1 / 2}}
    trec_eval = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"})
    assert trec_eval.evaluate({"q": dict(run.hits("q"))})["q"]["recip_rank"] == 1 / 3
    # With ids that sort the other way round, trec_eval agrees.
    renamed = {"d10": "z", "d9": "a", "d7": "d7"}
    swapped = {renamed[name]: score for name, score in run.hits("q")}
    trec_eval = pytrec_eval.RelevanceEvaluator({"q": {"z": 1, "d7": 0}}, {"recip_rank"})
    assert trec_eval.evaluate({"q": swapped})["q"]["recip_rank"] == 1 / 2


@real_collections.needed
@pytest.mark.parametrize("name", ["msmarco-dl19", "cranfield", "nfcorpus-proc"])
def test_equal_to_trec_eval_on_bm25_runs(name: str) -> None:
    qrels, documents = real_collections.qrels(name), real_collections.texts(name, "corpus")
    texts = real_collections.texts(name, "queries")
    queries = list(qrels)[1:]  # the first is missing from the run
    index = bm25_index(list(documents), list(documents.values()))
    run = index.search(queries, [texts[query] for query in queries], 1000)
    check_against_trec_eval(run, qrels)
    # Scores in steps of a half: ties everywhere, at the cuts too.
    tied = {
        query_id: [(name, round(2 * score) / 2) for name, score in hits]
        for query_id, hits in mapping(run).items()
    }
    check_against_trec_eval(run_of(tied), qrels)


# nDCG@10 of published runs on the judgements of TREC DL 2019, in the order of their lines; stated
# in the description that comes with the collection.
DL19_NDCG = {"REP_LLAMA": 0.7465, "SPLADE_P_P_ENSEMBLE_DISTIL": 0.7332, "BM25": 0.5071}


@real_collections.needed
def test_published_runs_of_dl19() -> None:
    qrels = real_collections.qrels("msmarco-dl19")
    runs = real_collections.published_runs("msmarco-dl19")
    assert len(runs) == 6
    found = {}
    for system, hits in runs.items():
        check_against_trec_eval(run_of(hits), qrels)
        by_line = {
            query_id: [(name, -place) for place, (name, _) in enumerate(of_query)]
            for query_id, of_query in hits.items()
        }
        found[system] = mean(check_against_trec_eval(run_of(by_line), qrels))["nDCG@10"]
    assert {system: found[system] for system in DL19_NDCG} == pytest.approx(DL19_NDCG, abs=5e-5)
    # RepLLaMA's scores were written in so few digits that the rule of ties alone moves them.
    assert len({score for _, score in runs["REP_LLAMA"]["264014"][:15]}) < 15
    by_score = mean(evaluate(run_of(runs["REP_LLAMA"]), qrels, ["nDCG@10"]))["nDCG@10"]
    assert abs(by_score - found["REP_LLAMA"]) > 5e-4


def test_missing_query_counts_zero() -> None:
    values = evaluate(
        run_of({"a": [("x", 1.0)]}), {"a": {"x": 1}, "b": {"x": 1}}, ["nDCG@10", "MAP@10"]
    )
    assert values == {"nDCG@10": {"a": 1.0, "b": 0.0}, "MAP@10": {"a": 1.0, "b": 0.0}}
    assert mean(values) == {"nDCG@10": 0.5, "MAP@10": 0.5}


def test_reciprocal_rank_by_hand() -> None:
    ranked = [(f"d{rank:02}", 20.0 - rank) for rank in range(1, 13)]
    run = run_of(dict.fromkeys(("first", "third", "tenth", "eleventh", "zero grade"), ranked))
    qrels = {
        "first": {"d01": 1, "d02": 1},
        "third": {"d03": 2, "d01": 0, "d09": 1},
        "tenth": {"d10": 1},
        "eleventh": {"d11": 1},
        "zero grade": {"d01": 0},
    }
    expected = {"first": 1, "third": 1 / 3, "tenth": 0.1, "eleventh": 0, "zero grade": 0}
    assert evaluate(run, qrels, ["MRR@10"])["MRR@10"] == pytest.approx(expected)


def test_grades_below_the_level_are_not_relevant() -> None:
    run = run_of({"q": [("a", 3.0), ("b", 2.0), ("c", 1.0)]})
    qrels = {"q": {"a": 1, "b": 2, "d": 3}}
    measures = ["MRR@10(rel=2)", "Recall@10(rel=2)", "Recall@10(rel=3)", "MRR@1(rel=2)"]
    assert [values["q"] for values in evaluate(run, qrels, measures).values()] == [0.5, 0.5, 0, 0]


def test_gain_is_linear() -> None:
    run = run_of({"q": [("a", 2.0), ("b", 1.0)]})
    value = evaluate(run, {"q": {"a": 1, "b": 3}}, ["nDCG@10"])["nDCG@10"]["q"]
    discount = 1 / np.log2(3)
    assert value == pytest.approx((1 + 3 * discount) / (3 + 1 * discount))


def test_nothing_found() -> None:
    for hits in ({}, {"q": []}, {"other": [("d", 1.0)]}):
        values = evaluate(run_of(hits), {"q": {"d": 1}}, ["Recall@5"])
        assert values == {"Recall@5": {"q": 0.0}}
    values = evaluate(run_of({"q": [("d", 1.0)]}), {"q": {}}, ["nDCG@5"])
    assert values == {"nDCG@5": {"q": 0.0}}


@pytest.mark.parametrize(
    "measure",
    ["ndcg@10", "nDCG", "nDCG@0", "nDCG@x", "P@10", "", "nDCG@10(rel=2)", "MRR@10(rel=0)"],
)
def test_unknown_measure_lists_the_known(measure: str) -> None:
    with pytest.raises(ValueError, match="nDCG@K, MRR@K, Recall@K, MAP@K"):
        evaluate(run_of({}), {}, [measure])


def test_mean_of_no_queries() -> None:
    with pytest.raises(ValueError):
        mean({"nDCG@10": {}})
