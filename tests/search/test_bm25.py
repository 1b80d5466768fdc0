"""BM25 against its formula, computed by hand."""

import re
from math import log

import numpy as np
import pytest
import real_collections
import Stemmer
from bm25s.stopwords import STOPWORDS_EN
from scipy import sparse
from support import bm25_index, pair_scores
from trec import mapping, run_of

from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.search.runs import Run

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
    index = bm25_index(list(TEXTS), list(TEXTS.values()), k1=k1, b=b)
    run = index.search(["q"], [query], 10).hits("q")
    expected = {name: formula(query, name, k1, b) for name in TEXTS}
    assert dict(run) == pytest.approx({name: s for name, s in expected.items() if s > 0}, rel=1e-5)
    assert run == sorted(run, key=lambda hit: (-hit[1], hit[0]))


def test_ties_break_by_id_at_the_cut() -> None:
    index = bm25_index(list(TEXTS), list(TEXTS.values()))
    (only,) = index.search(["q"], ["cat"], 1).hits("q")
    assert only[0] == "d10"
    assert [hit[0] for hit in index.search(["q"], ["cat"], 2).hits("q")] == ["d10", "d2"]


def test_stop_words_stems_and_case() -> None:
    index = bm25_index(["a", "b"], ["The runner is RUNNING home", "cats and a dog"])
    assert [hit[0] for hit in index.search(["q"], ["runs"], 5).hits("q")] == ["a"]
    assert [hit[0] for hit in index.search(["q"], ["the Cat"], 5).hits("q")] == ["b"]


def test_queries_without_known_terms_find_nothing() -> None:
    index = bm25_index(list(TEXTS), list(TEXTS.values()))
    texts = ["", "the", "unseen", "x"]
    run = index.search(list("abcd"), texts, 3)
    assert mapping(run) == {"a": [], "b": [], "c": [], "d": []}
    assert pair_scores(index, texts, ["d1", "d2", "d3", "d9"]) == [0.0] * 4


def test_scores_agree_with_search() -> None:
    generator = np.random.default_rng(0)
    words = [f"word{number}" for number in range(50)]
    texts = [" ".join(generator.choice(words, 20)) for _ in range(80)]
    ids = [f"d{number}" for number in range(80)]
    queries = [" ".join(generator.choice(words, 3)) for _ in range(10)]
    index = bm25_index(ids, texts)
    run = index.search(queries, queries, 80)
    for query in queries:
        found = dict(zip(ids, pair_scores(index, [query] * 80, ids), strict=True))
        assert dict(run.hits(query)) == {name: score for name, score in found.items() if score > 0}


def test_quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    bm25_index(list(TEXTS), list(TEXTS.values())).search(["q"], ["cat"], 2)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def plain_bm25(texts: dict[str, str], queries: dict[str, str], k1: float, b: float) -> Run:
    """BM25 by its formula over scipy matrices of counts."""
    stem, stop = Stemmer.Stemmer("english"), set(STOPWORDS_EN)

    def tokens(text: str) -> list[str]:
        words = re.findall(r"\b\w\w+\b", text.lower())
        return stem.stemWords([word for word in words if word not in stop])

    ids = sorted(texts)
    tokens_N = [tokens(texts[name]) for name in ids]
    vocabulary = {token: number for number, token in enumerate({t for ts in tokens_N for t in ts})}
    columns = [vocabulary[token] for ts in tokens_N for token in ts]
    lengths_N = np.array([len(ts) for ts in tokens_N])
    rows = np.repeat(np.arange(len(ids)), lengths_N)
    shape = (len(ids), len(vocabulary))
    counts_NV = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    documents_V = np.bincount(counts_NV.indices, minlength=len(vocabulary))
    idf_V = np.log(1 + (len(ids) - documents_V + 0.5) / (documents_V + 0.5))
    norm_N = k1 * (1 - b + b * lengths_N / lengths_N.mean())
    weights_NV = counts_NV.copy()
    weights_NV.data /= counts_NV.data + np.repeat(norm_N, np.diff(counts_NV.indptr))
    weights_NV = weights_NV.multiply(idf_V).tocsc()
    hits = {}
    for query_id, text in queries.items():
        known = [vocabulary[token] for token in tokens(text) if token in vocabulary]
        scores_N = np.asarray(weights_NV[:, known].sum(axis=1))[:, 0]
        # Scores closer than this are ties: the product's float32 tells no more apart.
        top = np.argsort(-scores_N.round(6), kind="stable")[:1000]
        hits[query_id] = [(ids[row], float(scores_N[row])) for row in top if scores_N[row] > 0]
    return run_of(hits)


# nDCG@10 of the same BM25 (k1 0.9, b 0.4, English stop words, Snowball stems), as stated in the
# description that comes with the collections.
NDCG = {"cranfield": 0.4798, "nfcorpus-proc": 0.3276, "msmarco-dl19": 0.4430}


@real_collections.needed
@pytest.mark.parametrize("name", NDCG)
def test_as_effective_as_an_independent_bm25(name: str) -> None:
    qrels, documents = real_collections.qrels(name), real_collections.texts(name, "corpus")
    texts = real_collections.texts(name, "queries")
    queries = {query: texts[query] for query in qrels}
    index = bm25_index(list(documents), list(documents.values()))
    run = index.search(list(queries), list(queries.values()), 1000)
    ours = mean(evaluate(run, qrels, ["nDCG@10"]))["nDCG@10"]
    plain = evaluate(plain_bm25(documents, queries, 0.9, 0.4), qrels, ["nDCG@10"])
    assert ours == pytest.approx(mean(plain)["nDCG@10"], abs=0.005)
    assert ours == pytest.approx(NDCG[name], abs=0.005)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="no document text holds a term"):
        bm25_index(["a", "b"], ["the", ""])
    with pytest.raises(ValueError, match="'a' occurs more than once"):
        bm25_index(["a", "a"], ["cat", "dog"])
