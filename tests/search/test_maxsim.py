"""MaxSim search against a computation in float64, pair by pair; texts without padding on disk.

Shapes: T vectors of some texts, P dimensions.
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
from lion_sweep.data.ragged import Ragged
from lion_sweep.errors import Interrupted
from lion_sweep.machine import interruption
from lion_sweep.search import maxsim
from lion_sweep.search.base import Where
from lion_sweep.search.maxsim import MaxSimIndex
from lion_sweep.search.parts import Parts, Stored

P = 6


def integers(random: np.random.Generator, texts: int, high: int, most: int = 4) -> Ragged:
    """Small ones, negative ones too: sums are exact, and tied. Some texts have no vector."""
    count = random.integers(0, most + 1, texts)
    return Ragged.of(random.integers(-high, high + 1, (count.sum(), P)).astype(np.float32), count)


def normal(random: np.random.Generator, count: list[int]) -> Ragged:
    vectors_TP = random.normal(size=(sum(count), P)).astype(np.float32)
    vectors_TP /= np.linalg.norm(vectors_TP, axis=1, keepdims=True)
    return Ragged.of(vectors_TP, np.array(count))


def one(texts: Ragged, row: int) -> np.ndarray:
    """The vectors of a text, in float64."""
    return texts.vectors_TP[texts.start_M[row] : texts.start_M[row + 1]].astype(np.float64)


def plain(documents: Ragged, ids: list[str], queries: Ragged, k: int) -> dict[str, Any]:
    """Hits by the rule of ties."""
    found = {}
    for row in range(len(queries)):
        scores = []
        for other in range(len(documents)):
            products = one(queries, row)[:, None] * one(documents, other)[None]
            best = products.sum(axis=2).max(axis=1) if products.shape[1] else -1.0
            scores.append(float(np.float32(np.sum(np.broadcast_to(best, len(products))))))
        hits = sorted(zip(ids, scores, strict=True), key=lambda hit: (-hit[1], hit[0]))
        found[f"q{row}"] = hits[:k]
    return found


def search(documents: Any, ids: list[str], queries: Ragged, k: int) -> Any:
    names = [f"q{row}" for row in range(len(queries))]
    return MaxSimIndex(ids, documents).search(names, queries, k)


def blocks(vectors: int, products: int, queries: int) -> Any:
    """Blocks of so many vectors of documents and of queries, and so many products at once."""
    sizes = {"_BLOCK_BYTES": 4 * P * vectors, "_PRODUCTS": products, "_QUERY_VECTORS": queries}
    return patch.multiple(maxsim, **sizes)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**16),
    documents=st.integers(1, 40),
    high=st.sampled_from([1, 2, 40]),
    k=st.integers(1, 50),
    sizes=st.tuples(st.integers(1, 90), st.integers(1, 300), st.integers(1, 9)),
)
def test_tied_texts_of_many_blocks(
    seed: int, documents: int, high: int, k: int, sizes: tuple[int, int, int]
) -> None:
    """Ids sort unlike the rows, and texts differ in their numbers of vectors."""
    random = np.random.default_rng(seed)
    held, asked = integers(random, documents, high), integers(random, 5, high)
    ids = [f"d{number}" for number in random.permutation(documents)]
    with blocks(*sizes):
        found = mapping(search(held, ids, asked, k))
    assert found == plain(held, ids, asked, k)


def test_scores_are_those_of_float64_and_equal_texts_tie() -> None:
    """Also where the copies lie in other blocks, among texts of other lengths."""
    random = np.random.default_rng(0)
    held = normal(random, [3, 7, 1, 4, 0, 5])
    copies = np.array([0, 1, 2, 3, 4, 5, 1, 0, 5, 1, 2, 3])
    documents, queries = held[copies], normal(random, [4, 1, 6])
    ids = [f"d{number:02}" for number in random.permutation(len(documents))]
    with blocks(9, 30, 5):
        found = mapping(search(documents, ids, queries, 12))
    expected = plain(documents, ids, queries, 12)
    for name, hits in expected.items():
        assert [hit for hit, _ in found[name]] == [hit for hit, _ in hits]
        np.testing.assert_allclose([s for _, s in found[name]], [s for _, s in hits], rtol=2e-7)
    by_id = dict(zip(ids, copies.tolist(), strict=True))
    for hits in found.values():
        scores = {by_id[name]: {s for n, s in hits if by_id[n] == by_id[name]} for name, _ in hits}
        assert all(len(one) == 1 for one in scores.values())


def test_the_way_of_a_gpu_gives_the_same_scores() -> None:
    """Candidates side by side, padded, in parts."""
    random = np.random.default_rng(1)
    texts = [normal(random, count) for count in ([2, 5, 1], [3, 0, 6, 1])]
    queries, documents = (maxsim._Texts(one, torch.device("cpu"), "") for one in texts)
    pairs = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    expected = maxsim._scores(queries, pairs[0], documents, pairs[1])
    with patch.object(maxsim, "_GATHERED", 100):
        found = maxsim._gathered_scores(queries, pairs[0], documents, pairs[1])
    np.testing.assert_array_equal(found, expected)


def stored(folder: Path, texts: Ragged, parts: int = 3) -> Stored:
    """In parts of rows from all over."""
    writer = Parts(folder, len(texts))
    for rows in np.array_split(np.random.default_rng(0).permutation(len(texts)), parts):
        for some in np.array_split(rows, 2):
            writer.add(some, texts[some], Spending())
        writer.keep()
    return Stored(folder, len(texts))


def test_on_disk_texts_take_no_padding_and_are_read_block_by_block(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    count = [*random.integers(0, 5, 60).tolist(), 400]
    texts = normal(random, count)
    files = stored(tmp_path, texts)
    assert files.kind == "multi" and files.shape == (61, P) and files.nnz == texts.vectors_TP.size
    assert files.count_M.tolist() == count
    size = sum(path.stat().st_size for path in tmp_path.glob("*.npz"))
    assert size < texts.nbytes + 3 * 1500 + 8 * 61
    for start, block in files.blocks(7):
        wanted = texts[start : start + 7]
        np.testing.assert_array_equal(block.vectors_TP, wanted.vectors_TP)
        np.testing.assert_array_equal(block.start_M, wanted.start_M)
    ids, queries = [f"d{number}" for number in range(61)], normal(random, [3, 2])
    asked: list[int] = []

    def counted(self: Stored, start: int, stop: int, rows: Any = Stored.rows) -> Any:
        found = rows(self, start, stop)
        asked.append(len(found.vectors_TP))
        return found

    with blocks(30, 1000, 100), patch.object(Stored, "rows", counted):
        run = search(files, ids, queries, 9)
    assert run == search(texts, ids, queries, 9)
    assert max(asked[:-1]) <= 30 and sum(asked) == sum(count)


def test_a_search_that_is_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    texts, queries = normal(random, [3] * 40), normal(random, [4, 2])
    ids, names = [f"d{number}" for number in range(40)], ["q0", "q1"]
    blocks_done: list[int] = []
    where = Where(
        tmp_path, torch.device("cpu"), lambda _: None, lambda done, _: blocks_done.append(done)
    )
    with blocks(12, 1000, 100):
        monkeypatch.setattr(interruption, "requested", lambda: len(blocks_done) == 4)
        with pytest.raises(Interrupted):
            MaxSimIndex.over(ids, texts, where).search(names, queries, 7)
        monkeypatch.setattr(interruption, "requested", lambda: False)
        run = MaxSimIndex.over(ids, texts, where).search(names, queries, 7)
    assert blocks_done == [*range(4, 41, 4)]
    assert mapping(run) == plain(texts, ids, queries, 7)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_searched_is_refused() -> None:
    texts = normal(np.random.default_rng(4), [1, 2])
    with pytest.raises(ValueError, match="2 dimensions, not 6"):
        search(texts, ["a", "b"], Ragged.of(np.ones((1, 2), np.float32), np.ones(1, int)), 1)
    broken = Ragged(texts.vectors_TP * np.nan, texts.start_M)
    with pytest.raises(ValueError, match="document vectors hold values that are not finite"):
        search(broken, ["a", "b"], texts, 1)
    with pytest.raises(ValueError, match="occurs more than once"):
        search(texts, ["a", "a"], texts, 1)
    stats = MaxSimIndex(["a", "b"], texts).stats()
    assert stats == {"documents": 2, "dimensions": P, "index_bytes": 3 * P * 4}
