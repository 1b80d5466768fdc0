"""BM25 and its negatives against bm25s, bit by bit; its index, killed and built again."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bm25s
import numpy as np
import pytest
import real_collections
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st
from support import bm25_index, mined, pair_scores, texts

from lion_sweep.data.collection import Collection, Judged
from lion_sweep.data.groups import Groups
from lion_sweep.search import mining, postings
from lion_sweep.search.bm25 import BM25Index, build
from lion_sweep.search.runs import Run, drop_self_hits

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it is DEBUG when imported


class Oracle:
    """bm25s over documents by ascending id."""

    def __init__(self, documents: dict[str, str], k1: float = 0.9, b: float = 0.4) -> None:
        self.ids = sorted(documents)
        self._bm25 = bm25s.BM25(k1=k1, b=b, method="lucene")
        tokens = self._tokens([documents[name] for name in self.ids])
        self._bm25.index(tokens, show_progress=False)

    def _tokens(self, given: list[str]) -> list[list[str]]:
        stemmer = Stemmer.Stemmer("english")
        return bm25s.tokenize(
            given, stopwords="english", stemmer=stemmer, return_ids=False, show_progress=False
        )

    def scores_N(self, query: str) -> np.ndarray:
        (tokens,) = self._tokens([query])
        return self._bm25.get_scores_from_ids(self._bm25.get_tokens_ids(tokens))

    def search(self, queries: dict[str, str], k: int) -> Run:
        rows = []
        for scores_N in map(self.scores_N, queries.values()):
            order = np.lexsort((np.arange(len(scores_N)), -scores_N))[:k]
            order = order[scores_N[order] > 0]
            rows.append((order, scores_N[order]))
        return Run.stacked(list(queries), self.ids, rows)


def blocks(monkeypatch: pytest.MonkeyPatch, documents: int) -> None:
    monkeypatch.setattr(postings, "BLOCK", documents)


@real_collections.needed
@pytest.mark.parametrize("name", ["cranfield", "nfcorpus-proc", "pydoc-std-doc"])
@pytest.mark.parametrize("block", [2**15, 250])
def test_hits_and_scores_of_collections(
    name: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks(monkeypatch, block)
    documents = real_collections.texts(name, "corpus")
    queries = dict(list(real_collections.texts(name, "queries").items())[:1000])
    index, oracle = bm25_index(list(documents), list(documents.values())), Oracle(documents)
    for k in (7, 1000):
        ours = index.search(list(queries), list(queries.values()), k)
        assert ours.scores_QK.dtype == np.float32
        assert ours == oracle.search(queries, k)


WORDS = ["cat", "cats", "dog", "The", "running", "runs", "x", "Ünde", "in", "tree2"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(
    documents=st.lists(TEXTS, min_size=1, max_size=40),
    queries=st.lists(TEXTS, min_size=1, max_size=5),
    k=st.integers(1, 8),
    block=st.sampled_from([1, 3, 64]),
    constants=st.sampled_from([(0.9, 0.4), (1.5, 0.75), (1.2, 0.0)]),
)
def test_hits_and_scores_of_small_collections(
    documents: list[str],
    queries: list[str],
    k: int,
    block: int,
    constants: tuple[float, float],
) -> None:
    """Ties, repeated words, empty texts, several blocks; ids do not stand in their order."""
    known = {f"d{number}": text for number, text in enumerate(documents)}
    asked = {f"q{number}": text for number, text in enumerate(queries)}
    with pytest.MonkeyPatch.context() as patch:
        blocks(patch, block)
        if not any(set(text.split()) - {"The", "in", "x"} for text in documents):
            with pytest.raises(ValueError, match="no document text holds a term"):
                bm25_index(list(known), documents)
            return
        index = bm25_index(list(known), documents, k1=constants[0], b=constants[1])
        oracle = Oracle(known, *constants)
        assert index.search(list(asked), queries, k) == oracle.search(asked, k)
        for query in queries:
            scores = pair_scores(index, [query] * len(known), oracle.ids)
            assert scores == oracle.scores_N(query).tolist()


def plain_mining(pairs: Collection, oracle: Oracle, depth: int) -> dict[str, list]:
    """The rules, query by query and hit by hit."""
    documents, queries = pairs.documents, pairs.queries
    qrels = pairs.judged["train"].qrels
    row_of = {name: row for row, name in enumerate(documents.ids)}
    place = {name: number for number, name in enumerate(oracle.ids)}
    text_of = dict(zip(queries.ids, queries.all(), strict=True))
    run = drop_self_hits(oracle.search({query: text_of[query] for query in qrels}, depth))
    found: dict[str, list] = {name: [] for name in Groups.__dataclass_fields__}
    for query, grades in qrels.items():
        hits = [(d, score) for d, score in run.hits(query) if grades.get(d, 0) <= 0]
        scores_N = oracle.scores_N(text_of[query])
        empty = depth - len(hits)
        for positive, grade in grades.items():
            if grade > 0 and positive in row_of and hits:
                found["query_P"].append(list(queries.ids).index(query))
                found["positive_P"].append(row_of[positive])
                found["negative_PM"].append([*(row_of[d] for d, _ in hits), *[-1] * empty])
                found["positive_score_P"].append(scores_N[place[positive]])
                found["negative_score_PM"].append([*(score for _, score in hits), *[0.0] * empty])
    return found


@real_collections.needed
@pytest.mark.parametrize("name", ["cranfield", "nfcorpus-proc", "pydoc-std-doc"])
def test_negatives_of_collections(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some batches of queries; some queries are passages too, some positives are not there."""
    monkeypatch.setattr(mining, "QUERIES", 30)
    documents, asked = (real_collections.texts(name, part) for part in ("corpus", "queries"))
    qrels = dict(list(real_collections.qrels(name).items())[:100])
    for number, query in enumerate(list(qrels)[::7]):
        own = list(documents)[number]  # a passage that asks
        qrels[own], asked[own] = qrels.pop(query) | {"gone": 1}, documents[own]
    both = texts(documents), texts(asked)
    pairs = Collection(name, *both, {"train": Judged.of(qrels, *both, {})})
    groups, _ = mined(pairs, 20)
    expected = plain_mining(pairs, Oracle(documents), 20)
    assert len(groups) > 50
    for part, values in expected.items():
        assert getattr(groups, part).tolist() == np.array(values).tolist(), part
        assert getattr(groups, part).dtype == (np.float32 if "score" in part else np.int32)


class Stopped(Exception):
    """A kill."""


@contextmanager
def stopped_after(steps: int) -> Iterator[list[int]]:
    """What to hand in as `on_step` is the list's `append`."""

    class Steps(list):
        def append(self, step: int) -> None:
            super().append(step)
            if len(self) == steps:
                raise Stopped

    yield Steps()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


DOCUMENTS = [f"word{number % 7} word{number % 5} word{number}" for number in range(50)]


def test_killed_builds_go_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks(monkeypatch, 16)
    whole: list[tuple[int, int]] = []
    build(tmp_path / "whole", DOCUMENTS, lambda done, total: whole.append((done, total)))
    assert whole == [(step, 100) for step in (16, 32, 48, 50, 66, 82, 98, 100)]
    expected = contents(tmp_path / "whole")
    assert sorted(expected) == [
        *(f"00000{n}.npy" for n in range(4)),
        "postings.json",
        "stems.arrow",
    ]
    for steps in range(1, 9):
        folder, seen = tmp_path / f"after {steps}", []
        with stopped_after(steps) as done, pytest.raises(Stopped):
            build(folder, DOCUMENTS, lambda step, _, done=done: done.append(step))
        build(folder, DOCUMENTS, lambda step, _, seen=seen: seen.append(step))
        assert contents(folder) == expected
        assert seen[:1] == [step for step, _ in whole[min(steps, 4) :][:1]]


def test_as_many_processes_as_cores_make_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks(monkeypatch, 16)
    for cores in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        build(tmp_path / cores, DOCUMENTS)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    index = BM25Index([f"d{number}" for number in range(50)], tmp_path / "2")
    assert index.stats() == {
        "documents": 50, "terms": 50, "postings": 133, "L0_documents": 2.66,
        "index_bytes": index.stats()["index_bytes"],
    }  # fmt: skip


def test_batches_go_on_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "QUERIES", 2)
    index = bm25_index([f"d{number}" for number in range(50)], DOCUMENTS)
    queries = texts({f"q{number}": DOCUMENTS[number] for number in range(5)})
    documents = texts({f"d{number}": DOCUMENTS[number] for number in range(50)})
    qrels = {f"q{number}": {f"d{number}": 1} for number in range(5)}
    judged = Judged.of(qrels, documents, queries, {})
    parts = list(mining.batches(index, queries, judged, 4))
    assert [part.query_P.tolist() for part, _ in parts] == [[0, 1], [2, 3], [4]]
    ((last, _),) = mining.batches(index, queries, judged, 4, first=2)
    assert all((one == other).all() for one, other in zip(
        vars(last).values(), vars(parts[2][0]).values(), strict=True
    ))  # fmt: skip
