"""Lucene's BM25 against its formula, against Pyserini's searcher, and on real collections."""

from math import log
from pathlib import Path

import bm25s
import numpy as np
import pytest
import real_collections
from support import bm25_index
from trec import mapping, run_of

from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.search import anserini
from lion_sweep.search.bm25_lucene import LuceneBM25Index
from lion_sweep.search.runs import Run

REASON = anserini.missing()
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"Lucene cannot run here: {REASON}")

# Already lower case, without stop words, and equal to their stems.
TEXTS = {
    "d10": "cat cat dog",
    "d9": "dog fish bird bird tree",
    "d1": "fish",
    "d3": "",
    "d2": "cat cat dog",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LuceneBM25Index:
    return LuceneBM25Index(list(TEXTS), list(TEXTS.values()), tmp_path_factory.mktemp("bm25"))


@pytest.mark.parametrize("query", ["cat", "dog fish", "bird tree cat", "bird bird cat"])
def test_scores_equal_the_formula(index: LuceneBM25Index, query: str) -> None:
    """Lucene's statistics are those of documents with a term: d3 is not one of them."""
    words = {name: text.split() for name, text in TEXTS.items() if text}
    average = sum(map(len, words.values())) / len(words)
    expected = dict.fromkeys(words, 0.0)
    for term in query.split():
        with_term = sum(term in of_text for of_text in words.values())
        idf = log(1 + (len(words) - with_term + 0.5) / (with_term + 0.5))
        for name, of_text in words.items():
            frequency = of_text.count(term)
            norm = 0.9 * (1 - 0.4 + 0.4 * len(of_text) / average)
            expected[name] += idf * frequency / (frequency + norm)
    run = index.search(["q"], [query], 10).hits("q")
    assert dict(run) == pytest.approx({name: s for name, s in expected.items() if s > 0}, rel=1e-5)
    assert run == sorted(run, key=lambda hit: (-hit[1], hit[0]))


def test_ties_break_by_id_at_the_cut(tmp_path: Path) -> None:
    ids = [f"d{number}" for number in np.random.default_rng(0).permutation(50)]
    index = LuceneBM25Index(ids, ["a cat and another"] * 49 + ["a cat, a cat"], tmp_path)
    for k in (1, 2, 7, 50, 90):
        found = [hit[0] for hit in index.search(["q"], ["cat"], k).hits("q")]
        assert found == [ids[49], *sorted(ids[:49])][:k]


def test_stop_words_stems_and_nothing_known(index: LuceneBM25Index) -> None:
    texts = ["the cats", "", "the", "unseen"]
    run = mapping(index.search(list("abcd"), texts, 3))
    assert [hit[0] for hit in run["a"]] == ["d10", "d2"]
    assert run["b"] == run["c"] == run["d"] == []


def test_bad_input(index: LuceneBM25Index, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no document text holds a term"):
        LuceneBM25Index(["a", "b"], ["the", ""], tmp_path)
    with pytest.raises(ValueError, match="more than once"):
        LuceneBM25Index(["a", "a"], ["cat", "dog"], tmp_path)
    with pytest.raises(ValueError, match="k must be at least 1"):
        index.search(["q"], ["cat"], 0)


@pytest.fixture(scope="module")
def long_texts() -> dict[str, str]:
    """Documents of up to 200 words, longer than Lucene's byte counts exactly."""
    generator = np.random.default_rng(1)
    words = [f"word{number}" for number in range(300)]
    return {
        f"d{n}": " ".join(generator.choice(words, generator.integers(1, 200))) for n in range(300)
    }


def test_hits_and_order_are_pyserinis(
    long_texts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = LuceneBM25Index(list(long_texts), list(long_texts.values()), tmp_path)
    # Pyserini builds an OpenAI client when imported, which fails without a key.
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(str(tmp_path / "index"))
    searcher.set_bm25(0.9, 0.4)
    for query in ("word1 word2 word3", "word7", "word250 word251 word252 word253"):
        ours, theirs = index.search(["q"], [query], 20).hits("q"), searcher.search(query, 20)
        assert [hit[0] for hit in ours] == [hit.docid for hit in theirs]
        assert [hit[1] for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-4)


def other_bm25(documents: dict[str, str], queries: dict[str, str]) -> Run:
    """bm25s' BM25 of Lucene, with exact document lengths, on Lucene's tokens."""
    find = anserini.java_class()
    analyser = find("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
    utilities = find("io.anserini.analysis.AnalyzerUtils")

    def tokens(text: str) -> list[str]:
        return list(utilities.analyze(analyser, text).toArray())

    ids = sorted(documents)
    index = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    index.index([tokens(documents[name]) for name in ids], show_progress=False)
    hits = {}
    for query_id, text in queries.items():
        scores_N = index.get_scores_from_ids(index.get_tokens_ids(tokens(text)))
        top = np.argsort(-scores_N, kind="stable")[:1000]
        hits[query_id] = [(ids[row], float(scores_N[row])) for row in top if scores_N[row] > 0]
    return run_of(hits)


@real_collections.needed
@pytest.mark.parametrize("name", ["cranfield", "nfcorpus-proc", "msmarco-dl19"])
def test_as_effective_as_an_independent_bm25(name: str, tmp_path: Path) -> None:
    qrels, documents = real_collections.qrels(name), real_collections.texts(name, "corpus")
    texts = real_collections.texts(name, "queries")
    queries = {query: texts[query] for query in qrels}
    index = LuceneBM25Index(list(documents), list(documents.values()), tmp_path)
    ours = index.search(list(queries), list(queries.values()), 1000)
    default = bm25_index(list(documents), list(documents.values()))
    snowball = default.search(list(queries), list(queries.values()), 1000)
    runs = {"Lucene": ours, "its tokens": other_bm25(documents, queries), "bm25s": snowball}
    found = {
        title: mean(evaluate(run, qrels, ["nDCG@10"]))["nDCG@10"] for title, run in runs.items()
    }
    print(name, {title: round(value, 4) for title, value in found.items()})
    assert found["Lucene"] == pytest.approx(found["its tokens"], abs=0.005)
    # Another stemmer and list of stop words.
    assert found["Lucene"] == pytest.approx(found["bm25s"], abs=0.02)
