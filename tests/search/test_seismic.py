"""Seismic against exact search: equal where it may leave nothing out, counted where it may.

Shapes: N documents, Q queries, V vocabulary.
"""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from support import searched
from trec import mapping, run_of

from lion_sweep.search.seismic import SeismicIndex
from lion_sweep.search.sparse import SparseIndex

REASON = SeismicIndex.missing()
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"Seismic cannot run here: {REASON}")
SUREST = {"n_postings": 3500, "summary_energy": 1.0, "query_cut": 1000, "heap_factor": 0.0}
LOSSY = {"n_postings": 3500, "summary_energy": 0.2, "query_cut": 3, "heap_factor": 0.9}


def weights(seed: int, rows: int, terms: int, density: float, first: int = 0) -> sparse.csr_matrix:
    """Random weights of `terms` terms, which follow `first` that nothing has."""
    generator = np.random.default_rng(seed)
    drawn = generator.gamma(1.0, 1.0, (rows, terms)) * (generator.random((rows, terms)) < density)
    empty = sparse.csr_matrix((rows, first), dtype=np.float32)
    return sparse.hstack([empty, sparse.csr_matrix(drawn.astype(np.float32))], format="csr")


def ids(letter: str, count: int) -> list[str]:
    return [f"{letter}{number}" for number in np.random.default_rng(0).permutation(count)]


def test_equal_to_exact_search_where_nothing_may_be_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    documents_NV = weights(1, 600, 300, 0.1, first=100_000)
    documents_NV = sparse.vstack([documents_NV, documents_NV[:50]], format="csr")  # ties
    queries_QV = weights(2, 30, 300, 0.1, first=100_000).tolil()
    queries_QV[0] = 0.0  # a query without terms
    queries_QV[1] = 0.0
    queries_QV[1, 5] = 1.0  # a term that no document has
    queries_QV = queries_QV.tocsr()
    document_ids, query_ids = ids("d", 650), ids("q", 30)
    index = SeismicIndex(document_ids, documents_NV, tmp_path, **SUREST)
    exact = SparseIndex(document_ids, documents_NV)
    for k in (1, 10, 1000):
        run = index.search(query_ids, queries_QV, k)
        assert run == exact.search(query_ids, queries_QV, k)  # scores to the last bit
        assert index.stats()["agreement_10"] == index.stats()["agreement"] == 1.0
    assert index.search([], queries_QV[:0], 10) == run_of({})
    stats, expected = index.stats(), exact.stats()
    for key in ("documents", "terms", "postings", "L0_documents"):
        assert stats[key] == expected[key]
    assert stats["index_bytes"] > 0
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_more_terms_than_16_bits_tell_apart(tmp_path: Path) -> None:
    terms = 2**16 + 10
    documents_NV = sparse.identity(terms, dtype=np.float32, format="csr")
    document_ids = [f"d{number:06}" for number in range(terms)]
    index = SeismicIndex(document_ids, documents_NV, tmp_path, **SUREST)
    run = index.search(["q", "r"], documents_NV[[7, 2**16 + 7]], 5)
    assert mapping(run) == {"q": [("d000007", 1.0)], "r": [("d065543", 1.0)]}


def test_what_is_missed_is_counted_and_what_is_found_has_its_exact_score(tmp_path: Path) -> None:
    documents_NV, queries_QV = weights(1, 3000, 400, 0.05), weights(2, 150, 400, 0.05)
    document_ids, query_ids = ids("d", 3000), ids("q", 150)
    index = SeismicIndex(document_ids, documents_NV, tmp_path, **LOSSY)
    run = index.search(query_ids, queries_QV, 100)
    exact = SparseIndex(document_ids, documents_NV).search(query_ids, queries_QV, 3000)
    sums = {query: dict(exact.hits(query)) for query in query_ids}
    for query in query_ids:
        hits = run.hits(query)
        assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))
        assert all(sums[query][document] == score for document, score in hits)

    def share(query: str, k: int) -> float:
        best = [document for document, _ in exact.hits(query)[:k]]
        return len(set(best) & {document for document, _ in run.hits(query)[:k]}) / len(best)

    sample = [query_ids[row] for row in np.linspace(0, 149, 100).astype(int)]
    stats = index.stats()
    assert stats["agreement_10"] == pytest.approx(np.mean([share(query, 10) for query in sample]))
    assert stats["agreement"] == pytest.approx(np.mean([share(query, 100) for query in sample]))
    assert 0.1 < stats["agreement"] < 0.99
    again = SeismicIndex(document_ids, documents_NV, tmp_path, **LOSSY)
    assert again.search(query_ids, queries_QV, 100) == run


def test_documents_without_terms_cannot_be_indexed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no document has a term"):
        SeismicIndex(["a"], sparse.csr_matrix((1, 3), dtype=np.float32), tmp_path, **SUREST)


def test_a_search_stage_by_the_approximate_engine(tmp_path: Path) -> None:
    """What it missed is among the stage's facts; its parameters tell its stages apart."""
    documents_NV, queries_QV = weights(1, 500, 80, 0.2), weights(2, 20, 80, 0.1)
    engine = "engine=seismic"
    plain = searched(tmp_path, documents_NV, queries_QV, engine)
    cut = searched(tmp_path, documents_NV, queries_QV, engine, "engine.kinds.sparse.query_cut=1")
    assert plain.folder.name != cut.folder.name
    assert plain.facts["agreement"] > cut.facts["agreement"] > 0
    assert {path.name for path in plain.folder.iterdir()} == {"done.json", "run.npz", "run.trec"}
