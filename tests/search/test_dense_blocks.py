"""Dense search block by block: the hits of a plain computation, whatever the blocks; goes on.

Shapes: N documents, Q queries, D dimensions.
"""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trec import mapping

from lion_sweep.cost.meter import Spending
from lion_sweep.errors import Interrupted
from lion_sweep.machine import interruption
from lion_sweep.search import best, dense
from lion_sweep.search.base import Where
from lion_sweep.search.dense import DenseIndex
from lion_sweep.search.parts import Parts, Stored
from lion_sweep.search.runs import Run

DIMENSIONS = 6


def stored(folder: Path, vectors_ND: np.ndarray, parts: int = 3) -> Stored:
    """The vectors in parts of rows from all over."""
    writer = Parts(folder, len(vectors_ND))
    for rows in np.array_split(np.random.default_rng(0).permutation(len(vectors_ND)), parts):
        writer.add(rows, vectors_ND[rows], Spending())
        writer.keep()
    return Stored(folder, len(vectors_ND))


def blocks(rows: int, products: int, dimensions: int = DIMENSIONS) -> Any:
    """Blocks of so many documents, and so many products at once."""
    return patch.multiple(dense, _BLOCK_BYTES=4 * dimensions * rows, _PRODUCTS=products)


def search(documents: Any, ids: list[str], queries_QD: np.ndarray, k: int, **words: Any) -> Run:
    index = DenseIndex(ids, documents, **words)
    return index.search([f"q{row}" for row in range(len(queries_QD))], queries_QD, k)


def plain(documents_ND: np.ndarray, ids: list[str], queries_QD: np.ndarray, k: int) -> Any:
    """Hits by the rule of ties, from sums in float64."""
    scores_QN = (queries_QD.astype(np.float64) @ documents_ND.astype(np.float64).T).astype(
        np.float32
    )
    return {
        f"q{row}": sorted(zip(ids, scores_N, strict=True), key=lambda hit: (-hit[1], hit[0]))[:k]
        for row, scores_N in enumerate(scores_QN.tolist())
    }


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**16),
    documents=st.integers(1, 80),
    high=st.sampled_from([1, 2, 40]),
    k=st.integers(1, 90),
    rows=st.integers(1, 90),
    products=st.integers(1, 300),
    half=st.booleans(),
)
def test_tied_vectors_of_many_blocks(
    seed: int, documents: int, high: int, k: int, rows: int, products: int, half: bool
) -> None:
    """Small integers, negative ones too: sums are exact and tied, ids sort unlike the rows."""
    random = np.random.default_rng(seed)
    documents_ND = random.integers(-high, high, (documents, DIMENSIONS)).astype(np.float32)
    queries_QD = random.integers(-high, high, (5, DIMENSIONS)).astype(np.float32)
    ids = [f"d{number}" for number in random.permutation(documents)]
    with blocks(rows, products):
        run = search(documents_ND, ids, queries_QD, k, half=half)
    assert mapping(run) == plain(documents_ND, ids, queries_QD, k)


@pytest.mark.parametrize("order", ["rising", "falling", "equal", "all but equal"])
def test_blocks_that_change_everything_or_nothing(order: str) -> None:
    """Each better than those before, all as good, or apart by less than a product is off."""
    random = np.random.default_rng(1)
    queries_QD = random.normal(size=(9, 64)).astype(np.float32)
    scale_N = {
        "rising": np.arange(1, 601),
        "falling": np.arange(600, 0, -1),
        "equal": np.ones(600),
        "all but equal": 1 + np.arange(600) % 7 * 2.0**-23,
    }[order]
    documents_ND = (scale_N[:, None] * random.normal(size=64)).astype(np.float32)
    ids = [f"d{number}" for number in random.permutation(600)]
    with blocks(50, 50 * 4, 64):
        found = mapping(search(documents_ND, ids, queries_QD, 20))
    # Summed like the engine's, which no matrix product is.
    exact_QN = (queries_QD[:, None].astype(np.float64) * documents_ND.astype(np.float64)).sum(2)
    for row, scores_N in enumerate(exact_QN.astype(np.float32).tolist()):
        hits = sorted(zip(ids, scores_N, strict=True), key=lambda hit: (-hit[1], hit[0]))
        assert found[f"q{row}"] == hits[:20]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_files_are_never_held_whole(tmp_path: Path, dtype: type) -> None:
    random = np.random.default_rng(2)
    documents_ND = random.normal(size=(500, DIMENSIONS)).astype(dtype)
    queries_QD = random.normal(size=(30, DIMENSIONS)).astype(np.float32)
    ids = [f"d{number}" for number in range(500)]
    files, asked = stored(tmp_path, documents_ND), []

    def counted(self: Stored, start: int, stop: int, rows: Any = Stored.rows) -> Any:
        asked.append((start, stop))
        return rows(self, start, stop)

    with blocks(64, 1000), patch.object(Stored, "rows", counted):
        run = search(files, ids, queries_QD, 40)
    assert asked == [(start, start + 64) for start in range(0, 500, 64)]
    assert run == search(documents_ND, ids, queries_QD, 40)
    assert mapping(run) == plain(documents_ND, ids, queries_QD, 40)


def test_values_at_the_ends_of_float32() -> None:
    """Sums beyond its range are infinite; 0 and -0 are tied."""
    documents_ND = np.array([[3e38, 3e38], [-0.0, 0.0], [0.0, 0.0], [-3e38, -3e38]], np.float32)
    with blocks(1, 1, 2):
        run = search(documents_ND, list("acbd"), np.array([[2.0, 2.0]], np.float32), 4)
    assert run.hits("q0") == [("a", np.inf), ("b", 0.0), ("c", 0.0), ("d", -np.inf)]


@pytest.mark.parametrize("how", ["killed", "asked to stop"])
@pytest.mark.parametrize("half", [False, True])
def test_a_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, half: bool
) -> None:
    random = np.random.default_rng(3)
    documents_ND = random.normal(size=(300, DIMENSIONS)).astype(np.float32)
    queries_QD = random.normal(size=(40, DIMENSIONS)).astype(np.float32)
    ids, queries = [f"d{number}" for number in range(300)], [f"q{row}" for row in range(40)]
    where = Where(tmp_path, torch.device("cpu"), print)
    monkeypatch.setattr(best, "KEEP_SECONDS", 0 if how == "killed" else 1000)
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 3 and how == "killed":
            raise KeyboardInterrupt
        monkeypatch.setattr(interruption, "_received", 15 if len(seen) == 3 else None)

    with blocks(50, 1000):
        expected = DenseIndex(ids, documents_ND, half=half)
        run = expected.search(queries, queries_QD, 10)
        index = DenseIndex.over(ids, documents_ND, where, half=half)
        index.on_block = stop
        with pytest.raises(KeyboardInterrupt if how == "killed" else Interrupted):
            index.search(queries, queries_QD, 10)
        again = DenseIndex.over(ids, documents_ND, where, half=half)
        again.on_block = stop
        assert again.search(queries, queries_QD, 10) == run
    kept = 100 if how == "killed" else 150  # the block that was being searched is lost
    assert seen == [50, 100, 150, *range(kept + 50, 301, 50)]
    assert again.stats() == expected.stats()
    assert list(tmp_path.iterdir()) == []
