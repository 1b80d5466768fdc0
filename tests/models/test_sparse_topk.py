"""Vectors that keep their largest weights: training's and a collection's, against plain numpy.

Shapes: B texts, L tokens, V vocabulary entries.
"""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from lion_sweep.data.batches import pad
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.models.largest import largest, largest_of_rows
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.models.sparse_topk import TopKSparseEncoder


def kept(row_V: np.ndarray, count: int) -> list[int]:
    """Entries of the largest weights, of equal ones the lower: sorted in Python."""
    order = sorted(range(len(row_V)), key=lambda entry: (-row_V[entry], entry))
    return sorted(entry for entry in order[:count] if row_V[entry] > 0)


def tied(texts: int = 7, entries: int = 31) -> np.ndarray:
    """Weights of few values, so that most of them tie; a row of zeros, one with a single weight."""
    drawn = np.random.default_rng(0).integers(0, 4, (texts, entries)) / 4
    drawn[1], drawn[2] = 0, 0
    drawn[2, 5] = 0.5
    return drawn


@pytest.mark.parametrize("count", [1, 3, 10, 31, 50])
def test_values_and_gradients(count: int) -> None:
    y_BV = tied()
    whole = torch.tensor(y_BV, requires_grad=True)
    grad_BV = torch.randn(y_BV.shape, dtype=torch.float64, generator=torch.manual_seed(1))
    found = largest(whole, count)
    (gradient,) = torch.autograd.grad(found, whole, grad_BV)
    for row, weights_V in enumerate(y_BV):
        stays = np.isin(np.arange(len(weights_V)), kept(weights_V, count))
        np.testing.assert_array_equal(found[row].detach(), np.where(stays, weights_V, 0))
        # Where a weight is 0 either way, the relu below passes nothing on.
        active = weights_V > 0
        expected = np.where(stays, grad_BV[row], 0)
        np.testing.assert_array_equal(gradient[row][active], expected[active])


@pytest.mark.parametrize("count", [1, 3, 10, 31])
def test_rows_are_the_same(count: int) -> None:
    y_BV = tied().astype(np.float32)
    found = largest_of_rows(sparse.csr_matrix(y_BV), count)
    assert found.has_sorted_indices
    np.testing.assert_array_equal(found.toarray(), largest(torch.tensor(y_BV), count).numpy())
    for row, weights_V in enumerate(y_BV):
        assert found[row].indices.tolist() == kept(weights_V, count)


def test_what_is_not_a_number_stays_so() -> None:
    y_BV = torch.tensor([[1.0, float("nan"), 2.0, 3.0]])
    assert largest(y_BV, 2).isnan().any()


def texts() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(3)
    drawn = [rng.integers(3, 97, size=length).astype(np.int32) for length in (3, 11, 1, 7)]
    return pad(drawn, torch.device("cpu"))


def test_training_and_collections_keep_the_same_terms(backbone: Backbone) -> None:
    settings = {"query_terms": 4, "passage_terms": 9, "threshold": -0.2}
    encoder = TopKSparseEncoder(backbone, **settings)
    with torch.no_grad():
        whole_BV = SparseEncoder(backbone, -0.2)(*texts()).numpy()
        for what, count in ((QUERIES, 4), (PASSAGES, 9)):
            assert encoder.most_terms(what, settings) == count
            trained_BV = encoder.finished(encoder(*texts()), what).numpy()
            encoded_BV = encoder.rows(*texts(), count).toarray()
            np.testing.assert_array_equal(trained_BV, encoded_BV)
            for trained_V, whole_V in zip(trained_BV, whole_BV, strict=True):
                assert np.flatnonzero(trained_V).tolist() == kept(whole_V, count)
                assert len(kept(whole_V, count)) == count


def test_others_tell_queries_and_passages_apart_by_nothing(backbone: Backbone) -> None:
    encoder, vectors = SparseEncoder(backbone, -0.2), torch.rand(2, 5)
    assert encoder.finished(vectors, QUERIES) is vectors
    assert encoder.most_terms(PASSAGES, {"threshold": -0.2}) is None
