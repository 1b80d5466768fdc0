"""BM25 against its formula, computed by hand."""

import logging
from math import log

import numpy as np
import pytest

from lion_sweep.retrieval.bm25 import BM25Index

# Already lower case, without stop words, and equal to their stems.
TEXTS = {
    "d10": "cat cat dog",
    "d9": "dog fish bird bird tree",
    "d1": "fish",
    "d3": "",
    "d2": "cat cat dog",
}


def formula(query: str, document_id: str, k1: float, b: float) -> float:
    lengths = {name: len(text.split()) for name, text in TEXTS.items()}
    average = sum(lengths.values()) / len(TEXTS)
    words, score = TEXTS[document_id].split(), 0.0
    for term in query.split():
        frequency = words.count(term)
        with_term = sum(term in text.split() for text in TEXTS.values())
        idf = log(1 + (len(TEXTS) - with_term + 0.5) / (with_term + 0.5))
        saturation = frequency + k1 * (1 - b + b * lengths[document_id] / average)
        score += idf * frequency / saturation
    return score


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.5, 0.75)])
@pytest.mark.parametrize("query", ["cat", "dog fish", "bird bird tree cat", "unseen fish"])
def test_scores_equal_the_formula(query: str, k1: float, b: float) -> None:
    index = BM25Index(list(TEXTS), list(TEXTS.values()), k1=k1, b=b)
    run = index.search(["q"], [query], 10)["q"]
    expected = {name: formula(query, name, k1, b) for name in TEXTS}
    assert dict(run) == pytest.approx({name: s for name, s in expected.items() if s > 0}, rel=1e-5)
    assert run == sorted(run, key=lambda hit: (-hit[1], hit[0]))


def test_ties_break_by_id_at_the_cut() -> None:
    index = BM25Index(list(TEXTS), list(TEXTS.values()))
    (only,) = index.search(["q"], ["cat"], 1)["q"]
    assert only[0] == "d10"
    assert [hit[0] for hit in index.search(["q"], ["cat"], 2)["q"]] == ["d10", "d2"]


def test_stop_words_stems_and_case() -> None:
    index = BM25Index(["a", "b"], ["The runner is RUNNING home", "cats and a dog"])
    assert [hit[0] for hit in index.search(["q"], ["runs"], 5)["q"]] == ["a"]
    assert [hit[0] for hit in index.search(["q"], ["the Cat"], 5)["q"]] == ["b"]


def test_queries_without_known_terms_find_nothing() -> None:
    index = BM25Index(list(TEXTS), list(TEXTS.values()))
    texts = ["", "the", "unseen", "x"]
    assert index.search(list("abcd"), texts, 3) == {"a": [], "b": [], "c": [], "d": []}
    assert index.scores(texts, [["d1"], [], ["d3"], ["d9"]]) == [[0.0], [], [0.0], [0.0]]


def test_scores_agree_with_search() -> None:
    generator = np.random.default_rng(0)
    words = [f"word{number}" for number in range(50)]
    texts = [" ".join(generator.choice(words, 20)) for _ in range(80)]
    ids = [f"d{number}" for number in range(80)]
    queries = [" ".join(generator.choice(words, 3)) for _ in range(10)]
    index = BM25Index(ids, texts)
    run = index.search(queries, queries, 80)
    all_scores = index.scores(queries, [ids] * 10)
    for query, scores in zip(queries, all_scores, strict=True):
        found = dict(zip(ids, scores, strict=True))
        assert dict(run[query]) == {name: score for name, score in found.items() if score > 0}


def test_quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    BM25Index(list(TEXTS), list(TEXTS.values())).search(["q"], ["cat"], 2)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not logging.getLogger("bm25s").isEnabledFor(logging.INFO)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="no document text holds a term"):
        BM25Index(["a", "b"], ["the", ""])
    index = BM25Index(["a"], ["cat"])
    with pytest.raises(ValueError, match="1 query texts for 0 lists"):
        index.scores(["cat"], [])
    with pytest.raises(KeyError, match="missing"):
        index.scores(["cat"], [["missing"]])
