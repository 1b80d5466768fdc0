"""Dense and sparse search against a brute-force reference.

Shapes: N documents, Q queries, D dimensions (the vocabulary, for sparse vectors).
"""

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import searched
from trec import mapping

from lion_sweep.search import dense as dense_module
from lion_sweep.search.dense import DenseIndex
from lion_sweep.search.postings import BLOCK
from lion_sweep.search.runs import Run
from lion_sweep.search.sparse import SparseIndex

Hits = dict[str, list[tuple[str, float]]]
Data = tuple[list[str], np.ndarray, list[str], np.ndarray]


def brute_force(data: Data, k: int, positive: bool) -> Hits:
    document_ids, documents_ND, query_ids, queries_QD = data
    scores_QN = queries_QD.astype(np.float64) @ documents_ND.astype(np.float64).T
    run: Hits = {}
    for query_id, scores_N in zip(query_ids, scores_QN.tolist(), strict=True):
        hits = sorted(zip(document_ids, scores_N, strict=True), key=lambda hit: (-hit[1], hit[0]))
        run[query_id] = [hit for hit in hits if hit[1] > 0 or not positive][:k]
    return run


def search_dense(data: Data, k: int) -> Hits:
    return mapping(DenseIndex(data[0], data[1]).search(data[2], data[3], k))


def search_sparse(data: Data, k: int) -> Hits:
    index = SparseIndex(data[0], sparse.csr_matrix(data[1]))
    return mapping(index.search(data[2], sparse.csr_matrix(data[3]), k))


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
@settings(deadline=None)  # the first search compiles or reads the kernel
@given(
    seed=st.integers(0, 2**16),
    documents=st.integers(1, 60),
    dimensions=st.integers(1, 6),
    high=st.sampled_from([1, 2, 3, 50]),
    k=st.integers(1, 70),
)
def test_tied_data_equal_brute_force(
    engine: Callable[[Data, int], Hits],
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
    engine: Callable[[Data, int], Hits], positive: bool, k: int
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
    engine: Callable[[Data, int], Hits], positive: bool
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


def sparse_product(documents_NV: np.ndarray, queries_QV: np.ndarray, k: int) -> Run:
    """What scipy's product of CSR matrices gives, sorted as a whole."""
    documents, queries = sparse.csr_matrix(documents_NV), sparse.csr_matrix(queries_QV)
    rows = []
    for scores_N in np.asarray((queries @ documents.T.tocsr()).todense()):
        order = np.lexsort((np.arange(len(scores_N)), -scores_N.astype(np.float64)))[:k]
        order = order[scores_N[order] > 0]
        rows.append((order, scores_N[order].astype(np.result_type(scores_N, np.float32))))
    names = [f"{number:06}" for number in range(documents.shape[0])]
    return Run.stacked([f"q{number}" for number in range(len(rows))], names, rows)


def zipf_weights(seed: int, rows: int, terms: int, nnz: int) -> sparse.csr_matrix:
    generator = np.random.default_rng(seed)
    share = 1 / (np.arange(terms) + 10)
    columns = generator.choice(terms, rows * nnz, p=share / share.sum())
    weights = generator.gamma(2.0, 0.5, rows * nnz).astype(np.float32)
    matrix = sparse.csr_matrix((weights, columns, np.arange(rows + 1) * nnz), (rows, terms))
    matrix.sum_duplicates()
    return matrix


@pytest.mark.parametrize("kind", ["float", "levels", "large integers"])
def test_sparse_equals_scipy_over_many_blocks(kind: str) -> None:
    """More documents than two blocks hold, and more queries than one pass takes."""
    documents_NV = zipf_weights(0, 2 * BLOCK + 777, 300, 20)
    queries_QV = zipf_weights(1, 70, 300, 12)
    if kind != "float":
        highest = 7 if kind == "levels" else 5_000  # sums far above 2**24
        for matrix in (documents_NV, queries_QV):
            matrix.data = np.ceil(matrix.data / matrix.data.max() * highest)
        documents_NV, queries_QV = documents_NV.astype(np.int64), queries_QV.astype(np.int64)
    ids = [f"{number:06}" for number in range(documents_NV.shape[0])]
    index, queries = SparseIndex(ids, documents_NV), [f"q{number}" for number in range(70)]
    for k in (1, 1000):
        run = index.search(queries, queries_QV, k)
        if kind != "float":
            assert run == sparse_product(documents_NV, queries_QV, k)
            continue
        # The sum that the docstring promises, in plain numpy: scipy's, where it compiles to
        # products and sums apart.
        for row, query_id in enumerate(queries[:20]):
            scores_N = np.zeros(len(ids), np.float32)
            own = queries_QV[row]
            for term, weight in zip(own.indices, own.data, strict=True):
                scores_N += weight * documents_NV[:, term].toarray()[:, 0]
            order = np.lexsort((np.arange(len(ids)), -scores_N))[:k]
            expected = [(ids[place], float(scores_N[place])) for place in order]
            assert run.hits(query_id) == expected
    one = index.search(["q3"], queries_QV[3], 1000)
    assert one.hits("q3") == index.search(queries, queries_QV, 1000).hits("q3")


def test_hits_at_the_edges_of_blocks() -> None:
    """Few hits spread over blocks: the rest of each row says that there are none."""
    rows = [0, BLOCK - 1, BLOCK, 2 * BLOCK]
    documents_NV = sparse.csr_matrix(
        (np.ones(4, np.float32), (rows, np.zeros(4, int))), (2 * BLOCK + 1, 2)
    )
    ids = [f"{number:06}" for number in range(documents_NV.shape[0])]
    queries_QV = sparse.csr_matrix([[2.0, 0.0], [0.0, 1.0]])
    run = SparseIndex(ids, documents_NV).search(["some", "none"], queries_QV, 10)
    assert mapping(run) == {"some": [(ids[row], 2.0) for row in rows], "none": []}


def test_integers_need_integers_below_their_limit() -> None:
    ones_ND = np.ones((2, 2))
    index = SparseIndex(["a", "b"], sparse.csr_matrix(ones_ND.astype(np.int64) * 2**20))
    assert index.search(["q"], sparse.csr_matrix(np.full((1, 2), 2**10)), 1).hits("q") == [
        ("a", 2.0**31)
    ]
    with pytest.raises(ValueError, match="a score could reach 4294967296"):
        index.search(["q"], sparse.csr_matrix(np.full((1, 2), 2**11)), 1)
    with pytest.raises(ValueError, match="both have integer weights"):
        index.search(["q"], sparse.csr_matrix(ones_ND[:1]), 1)
    with pytest.raises(ValueError, match="integer weights go up to 4294967295"):
        SparseIndex(["a"], sparse.csr_matrix([[2**32]]))


def test_sparse_input_is_left_alone_and_need_not_be_canonical() -> None:
    # Unsorted columns, one given twice, one zero stored.
    matrix = sparse.csr_matrix(
        (np.array([1, 2, 3, 0], np.float32), np.array([2, 0, 2, 1]), np.array([0, 3, 4])),
        shape=(2, 3),
    )
    index = SparseIndex(["a", "b"], matrix)
    run = index.search(["q"], sparse.csr_matrix([[1.0, 1.0, 1.0]]), 5)
    assert mapping(run) == {"q": [("a", 6.0)]}
    assert index.stats()["postings"] == 2
    assert matrix.nnz == 4


def test_search_with_no_queries() -> None:
    data = integer_data(0, 5, 0, 3, 3)
    assert search_dense(data, 3) == {} == search_sparse(data, 3)


@pytest.mark.parametrize("scale", ["normalised", "long"])
def test_dense_equals_faiss(monkeypatch: pytest.MonkeyPatch, scale: str) -> None:
    """Several blocks of documents and queries; scores agree to float32's rounding."""
    monkeypatch.setattr(dense_module, "_BLOCK_BYTES", 700 * 96 * 4)
    monkeypatch.setattr(dense_module, "_PRODUCTS", 700 * 7)
    generator = np.random.default_rng(11)
    documents_ND = generator.normal(size=(3000, 96)).astype(np.float32)
    queries_QD = generator.normal(size=(40, 96)).astype(np.float32)
    if scale == "normalised":
        documents_ND /= np.linalg.norm(documents_ND, axis=1, keepdims=True)
        queries_QD /= np.linalg.norm(queries_QD, axis=1, keepdims=True)
    flat = faiss.IndexFlatIP(96)
    flat.add(documents_ND)
    expected_QK, numbers_QK = flat.search(queries_QD, 100)
    ids = [f"{number:04}" for number in range(3000)]
    run = DenseIndex(ids, documents_ND).search([str(row) for row in range(40)], queries_QD, 100)
    np.testing.assert_allclose(run.scores_QK, expected_QK, rtol=1e-5, atol=1e-6)
    # Neighbours may change places where their scores differ by less than float32 resolves.
    assert (run.documents_QK == numbers_QK).mean() > 0.999
    exact_QN = queries_QD.astype(np.float64) @ documents_ND.astype(np.float64).T
    order_QN = np.argsort(-exact_QN.astype(np.float32), axis=1, kind="stable")
    assert (run.documents_QK == order_QN[:, :100]).all()


def test_dense_half_is_exact_on_rounded_vectors() -> None:
    generator = np.random.default_rng(5)
    documents_ND = generator.normal(size=(2000, 32)).astype(np.float32)
    queries_QD = generator.normal(size=(50, 32)).astype(np.float32)
    ids, queries = [f"d{number}" for number in range(2000)], [f"q{row}" for row in range(50)]
    half = DenseIndex(ids, documents_ND, half=True)
    run = half.search(queries, queries_QD, 100)
    rounded = [
        vectors.astype(np.float16).astype(np.float32) for vectors in (documents_ND, queries_QD)
    ]
    assert run == DenseIndex(ids, rounded[0]).search(queries, rounded[1], 100)
    full = DenseIndex(ids, documents_ND)
    exact = full.search(queries, queries_QD, 100)
    shared = [
        len(set(dict(run.hits(query))) & set(dict(exact.hits(query)))) for query in queries[:32]
    ]
    assert half.stats()["agreement"] == pytest.approx(np.mean(shared) / 100)
    assert 0.97 < half.stats()["agreement"] < 1
    first = [
        len(set(dict(run.hits(query)[:10])) & set(dict(exact.hits(query)[:10])))
        for query in queries[:32]
    ]
    assert half.stats()["agreement_10"] == pytest.approx(np.mean(first) / 10)
    assert half.stats()["index_bytes"] == full.stats()["index_bytes"] / 2
    with pytest.raises(ValueError, match="half precision ends at 65,504"):
        DenseIndex(["a"], np.full((1, 2), 1e5), half=True).search(["q"], np.ones((1, 2)), 1)


def test_half_precision_is_searched_by_a_stage_of_its_own(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    documents_ND = generator.normal(size=(2000, 32)).astype(np.float32)
    queries_QD = generator.normal(size=(50, 32)).astype(np.float32)
    full, half = (
        searched(tmp_path, documents_ND, queries_QD, f"engine.kinds.dense.half={half}")
        for half in ("false", "true")
    )
    assert full.folder.name != half.folder.name and "agreement" not in full.facts
    assert 0.97 < half.facts["agreement"] < 1
    assert half.facts["index_bytes"] == full.facts["index_bytes"] / 2
    ids, queries = [f"d{number}" for number in range(2000)], [f"q{row}" for row in range(50)]
    expected = DenseIndex(ids, documents_ND, half=True).search(queries, queries_QD, 1000)
    assert Run.load(half.folder / "run.npz") == expected
    assert 0.9 < half.facts["agreement_10"] <= 1


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
    engine: Callable[[Data, int], Hits],
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
def test_values_that_are_not_finite(engine: Callable[[Data, int], Hits], positive: bool) -> None:
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
