"""Posting lists in folders, and search that leaves lists out."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from lion_sweep.data.ids import Ids
from lion_sweep.errors import Interrupted
from lion_sweep.machine import interruption
from lion_sweep.search import postings
from lion_sweep.search.postings import Postings
from lion_sweep.search.sparse import SparseIndex

BLOCK = 1024
SIZE = 6 * BLOCK - 100


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postings, "BLOCK", BLOCK)


def vectors(dtype: type) -> sparse.csr_matrix:
    """Six blocks: a light term that nearly all have, rare heavy ones, weights that tie."""
    generator = np.random.default_rng(0)
    share = 0.9 / (np.arange(40) ** 1.7 + 1)
    present = generator.random((SIZE, 40)) < share
    weights = generator.integers(1, 4, present.shape) * (np.arange(40) // 8 + 1)
    weights = weights / (1 if dtype is np.int64 else 3)
    return sparse.csr_matrix((present * weights).astype(dtype))


def brute_force(
    documents_NV: sparse.csr_matrix, query_V: np.ndarray, ids: list[str], k: int
) -> list[tuple[str, float]]:
    """Products added term by term, as the engine promises."""
    scores_N = np.zeros(len(ids), dtype=documents_NV.dtype)
    columns = documents_NV.toarray()
    for term in np.flatnonzero(query_V):
        scores_N += query_V[term] * columns[:, term]
    hits = sorted(zip(ids, scores_N.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))
    return [hit for hit in hits[:k] if hit[1] > 0]


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("k", [1, 10, 300])
@pytest.mark.parametrize("where", ["memory", "folder"])
def test_lists_left_out_change_nothing(dtype: type, k: int, where: str, tmp_path: Path) -> None:
    """Ids do not stand in their order."""
    documents_NV = vectors(dtype)
    ids = [f"d{number}" for number in np.random.default_rng(1).permutation(documents_NV.shape[0])]
    queries_QV = np.zeros((4, 40), dtype)
    for query, terms in enumerate([[0, 39], [0, 1, 20, 38], [2], range(40)]):
        queries_QV[query, terms] = np.arange(1, len(terms) + 1)
    made = documents_NV
    if where == "folder":
        made = Postings.write(tmp_path, lambda a, b: documents_NV[a:b], documents_NV.shape)
    run = SparseIndex(ids, made).search(list("abcd"), sparse.csr_matrix(queries_QV), k)
    for name, query_V in zip("abcd", queries_QV, strict=True):
        assert run.hits(name) == brute_force(documents_NV, query_V, ids, k)


def test_a_stopped_folder_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents_NV, asked, seen = vectors(np.float32), [], []

    def rows(start: int, stop: int) -> sparse.csr_matrix:
        asked.append((start, stop))
        return documents_NV[start:stop]

    starts = list(range(0, SIZE, BLOCK))
    whole = Postings.write(tmp_path / "whole", rows, documents_NV.shape)
    assert asked == [(start, min(start + BLOCK, SIZE)) for start in starts]
    asked.clear()
    folder = tmp_path / "own"
    with monkeypatch.context() as patch:
        patch.setattr(interruption, "requested", lambda: len(asked) == 2)
        with pytest.raises(Interrupted):
            Postings.write(folder, rows, documents_NV.shape)
    assert not (folder / postings.STATS).exists()
    again = Postings.write(folder, rows, documents_NV.shape, lambda *step: seen.append(step))
    assert [start for start, _ in asked] == starts
    assert seen[-1] == (SIZE, SIZE)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "own" / path.name).read_bytes()
    assert again.stats == whole.stats == Postings.of(documents_NV).stats


def test_ids_compare_as_strings() -> None:
    names = ["b", "\U0001f600", "\uffff", "a", "10", "9", ""]
    ids = Ids(names)
    assert list(ids.ascending) == sorted(names) == [names[row] for row in ids.order_N]
    assert ids.rank_N.tolist() == [sorted(names).index(name) for name in names]
    assert ids.rows(["9", "none", "b", "9"]).tolist() == [5, -1, 0, 5]
    assert (ids[1], list(ids[2:4]), len(ids), ids.repeated) == ("\U0001f600", names[2:4], 7, None)
    assert Ids(["b", "a", "b", "a"]).repeated == "a"
