"""Dense and sparse search against a brute-force reference.

Shapes: N documents, Q queries, D dimensions (the vocabulary, for sparse vectors).
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from lion_sweep.retrieval import sparse as sparse_module
from lion_sweep.retrieval.dense import DenseIndex
from lion_sweep.retrieval.runs import Run
from lion_sweep.retrieval.sparse import SparseIndex

Data = tuple[list[str], np.ndarray, list[str], np.ndarray]


def brute_force(data: Data, k: int, positive: bool) -> Run:
    document_ids, documents_ND, query_ids, queries_QD = data
    scores_QN = queries_QD.astype(np.float64) @ documents_ND.astype(np.float64).T
    run: Run = {}
    for query_id, scores_N in zip(query_ids, scores_QN.tolist(), strict=True):
        hits = sorted(zip(document_ids, scores_N, strict=True), key=lambda hit: (-hit[1], hit[0]))
        run[query_id] = [hit for hit in hits if hit[1] > 0 or not positive][:k]
    return run


def search_dense(data: Data, k: int) -> Run:
    return DenseIndex(data[0], data[1]).search(data[2], data[3], k)


def search_sparse(data: Data, k: int) -> Run:
    index = SparseIndex(data[0], sparse.csr_matrix(data[1]))
    return index.search(data[2], sparse.csr_matrix(data[3]), k)


def integer_data(seed: int, documents: int, queries: int, dimensions: int, high: int) -> Data:
    """Small integers: every product sum is exact in float32, and many are tied."""
    generator = np.random.default_rng(seed)
    # Unpadded numbers in random order: "d10" sorts before "d9".
    document_ids = [f"d{number}" for number in generator.permutation(documents)]
    documents_ND = generator.integers(0, high, (documents, dimensions)).astype(np.float32)
    queries_QD = generator.integers(0, high, (queries, dimensions)).astype(np.float32)
    return document_ids, documents_ND, [f"q{number}" for number in range(queries)], queries_QD


ENGINES = pytest.mark.parametrize(
    ("engine", "positive"), [(search_dense, False), (search_sparse, True)], ids=["dense", "sparse"]
)


@ENGINES
@given(
    seed=st.integers(0, 2**16),
    documents=st.integers(1, 60),
    dimensions=st.integers(1, 6),
    high=st.sampled_from([1, 2, 3, 50]),
    k=st.integers(1, 70),
)
def test_tied_data_equal_brute_force(
    engine: Callable[[Data, int], Run],
    positive: bool,
    seed: int,
    documents: int,
    dimensions: int,
    high: int,
    k: int,
) -> None:
    data = integer_data(seed, documents, 4, dimensions, high)
    assert engine(data, k) == brute_force(data, k, positive)


@ENGINES
@pytest.mark.parametrize("k", [1, 10, 100, 2000])
def test_random_data_equal_brute_force(
    engine: Callable[[Data, int], Run], positive: bool, k: int
) -> None:
    generator = np.random.default_rng(7)
    document_ids, _, query_ids, _ = integer_data(7, 1500, 60, 1, 2)
    # Steps of 1/64: real-valued, yet the reference and float32 agree to the last bit.
    documents_ND = np.round(generator.gamma(1.0, 1.0, (1500, 32)) * 64) / 64
    queries_QD = np.round(generator.gamma(1.0, 1.0, (60, 32)) * 64) / 64
    if positive:
        documents_ND *= generator.random(documents_ND.shape) < 0.1
        queries_QD *= generator.random(queries_QD.shape) < 0.1
    data = (
        document_ids, documents_ND.astype(np.float32), query_ids, queries_QD.astype(np.float32),
    )  # fmt: skip
    assert engine(data, k) == brute_force(data, k, positive)


@ENGINES
def test_equal_vectors_tie_and_batches_agree(
    engine: Callable[[Data, int], Run], positive: bool
) -> None:
    generator = np.random.default_rng(3)
    once_ND = np.abs(generator.normal(size=(301, 768))).astype(np.float32)
    document_ids = [f"{name}{number}" for name in "ab" for number in range(301)]
    # So many queries of such width that faiss, left alone, takes a matrix product.
    queries_QD = np.abs(generator.normal(size=(250, 768))).astype(np.float32)
    data = (document_ids, np.tile(once_ND, (2, 1)), [f"q{n}" for n in range(250)], queries_QD)
    run = engine(data, 20)
    for hits in run.values():
        assert [hit[0][1:] for hit in hits[::2]] == [hit[0][1:] for hit in hits[1::2]]
        assert [hit[0][0] for hit in hits] == ["a", "b"] * 10
        assert [hit[1] for hit in hits[::2]] == [hit[1] for hit in hits[1::2]]
    assert engine((data[0], data[1], data[2][:1], queries_QD[:1]), 20) == {"q0": run["q0"]}


def test_sparse_blocks_of_queries_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    data = integer_data(5, 40, 9, 4, 3)
    whole = search_sparse(data, 10)
    monkeypatch.setattr(sparse_module, "_SCORES_PER_BLOCK", 100)
    assert search_sparse(data, 10) == whole


def test_sparse_input_is_left_alone_and_need_not_be_canonical() -> None:
    # Unsorted columns, one given twice, one zero stored.
    matrix = sparse.csr_matrix(
        (np.array([1, 2, 3, 0], np.float32), np.array([2, 0, 2, 1]), np.array([0, 3, 4])),
        shape=(2, 3),
    )
    index = SparseIndex(["a", "b"], matrix)
    assert index.search(["q"], sparse.csr_matrix([[1.0, 1.0, 1.0]]), 5) == {"q": [("a", 6.0)]}
    assert index.stats()["postings"] == 2
    assert matrix.nnz == 4


def test_search_with_no_queries() -> None:
    data = integer_data(0, 5, 0, 3, 3)
    assert search_dense(data, 3) == {} == search_sparse(data, 3)


def test_stats() -> None:
    documents_ND = np.array([[1, 0, 2], [0, 0, 0], [3, 0, 0]], np.float32)
    dense = DenseIndex(["a", "b", "c"], documents_ND).stats()
    assert dense == {"documents": 3, "dimensions": 3, "index_bytes": 36}
    stats = SparseIndex(["a", "b", "c"], sparse.csr_matrix(documents_ND)).stats()
    assert stats.pop("index_bytes") > 0
    assert stats == {"documents": 3, "terms": 2, "postings": 3, "L0_documents": 1.0}


@ENGINES
@pytest.mark.parametrize(
    ("document_ids", "query_ids", "width", "k", "message"),
    [
        (["a", "b"], ["q"], 2, 0, "k must be at least 1"),
        (["a", "a"], ["q"], 2, 1, "'a' occurs more than once"),
        (["a"], ["q"], 2, 1, "1 document ids for 2 documents"),
        ([], ["q"], 2, 1, "at least one document"),
        (["a", "b"], ["q", "r"], 2, 1, "2 query ids for 1 queries"),
        (["a", "b"], ["q"], 3, 1, "queries have 3"),
    ],
)
def test_bad_input(
    engine: Callable[[Data, int], Run],
    positive: bool,
    document_ids: list[str],
    query_ids: list[str],
    width: int,
    k: int,
    message: str,
) -> None:
    documents_ND = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match=message):
        engine((document_ids, documents_ND, query_ids, np.ones((1, width), np.float32)), k)


@ENGINES
def test_values_that_are_not_finite(engine: Callable[[Data, int], Run], positive: bool) -> None:
    bad_ND = np.array([[1.0, np.nan]], np.float32)
    good_ND = np.ones((1, 2), np.float32)
    for documents_ND, queries_QD in ((bad_ND, good_ND), (good_ND, bad_ND)):
        with pytest.raises(ValueError, match="not finite"):
            engine((["a"], documents_ND, ["q"], queries_QD), 1)


def test_repeated_query_id_and_negative_weight() -> None:
    ones_ND = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="query id occurs more than once"):
        search_dense((["a", "b"], ones_ND, ["q", "q"], ones_ND), 1)
    with pytest.raises(ValueError, match="negative"):
        SparseIndex(["a", "b"], sparse.csr_matrix(-ones_ND))
