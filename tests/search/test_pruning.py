"""Pruned vectors against plain sorting of all weights.

Shapes: N texts, V vocabulary entries.
"""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from lion_sweep.cost.meter import Spending
from lion_sweep.search.parts import Parts, Stored
from lion_sweep.search.pruning import Pruned, least_weight


def stored(folder: Path, vectors_NV: np.ndarray) -> Path:
    """In two parts, whose rows alternate."""
    parts = Parts(folder, len(vectors_NV))
    for first in (0, 1):
        rows = np.arange(first, len(vectors_NV), 2)
        parts.add(rows, sparse.csr_matrix(vectors_NV[rows]), Spending())
        parts.keep()
    return folder


def weights(values: int, texts: int = 40, entries: int = 60) -> np.ndarray:
    """A third are not 0, drawn from so many values."""
    rng = np.random.default_rng(values)
    drawn = np.exp(rng.normal(0, 2, values)).astype(np.float32)
    return rng.choice(drawn, (texts, entries)) * (rng.random((texts, entries)) < 1 / 3)


@pytest.mark.parametrize("values", [3, 100_000])
@pytest.mark.parametrize("most", [0, 1, 137, 400, 10_000])
def test_the_threshold_keeps_as_many_as_it_may(tmp_path: Path, values: int, most: int) -> None:
    vectors_NV = weights(values)
    folder = stored(tmp_path, vectors_NV)
    least = least_weight(Stored(folder), most)
    found = Pruned(folder, least=least)
    active = vectors_NV[vectors_NV > 0]
    # Of all thresholds that are weights, the lowest that so many reach.
    fits = [value for value in np.unique(active) if (active >= value).sum() <= most]
    expected = (active >= min(fits)).sum() if fits else 0
    assert found.nnz == found.all().nnz == expected <= most
    np.testing.assert_array_equal(
        found.all().toarray(), np.where(vectors_NV >= min(fits, default=np.inf), vectors_NV, 0)
    )
    if values > 100 and most < len(active):
        assert expected == most


@pytest.mark.parametrize("terms", [1, 7, 30])
def test_rows_blocks_and_counts_are_of_what_stays(tmp_path: Path, terms: int) -> None:
    vectors_NV = weights(5)
    found = Pruned(stored(tmp_path, vectors_NV), terms)
    order_NV = np.argsort(-vectors_NV, axis=1, kind="stable")
    expected = np.zeros_like(vectors_NV)
    for row, order_V in enumerate(order_NV):
        expected[row, order_V[:terms]] = vectors_NV[row, order_V[:terms]]
    np.testing.assert_array_equal(found.all().toarray(), expected)
    blocks = [block.toarray() for _, block in found.blocks(7)]
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
    np.testing.assert_array_equal(found.terms_V, (expected > 0).sum(axis=0))
    assert found.nnz == (expected > 0).sum()
    assert (len(found), found.shape) == (40, (40, 60))
