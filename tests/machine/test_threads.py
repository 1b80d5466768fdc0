"""Kernels of numba leave torch's threads alone: sums are split the same before and after them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import sparse
from threadpoolctl import threadpool_info

from lion_sweep.machine import threads
from lion_sweep.models import sparse_head
from lion_sweep.search.dense import DenseIndex
from lion_sweep.search.sparse import SparseIndex


def head() -> None:
    """Forward and backward, of states and weight."""
    hidden_BLD, weight_VD = (
        torch.randn(shape, requires_grad=True) for shape in ((3, 5, 8), (9, 8))
    )
    mask_BL = torch.ones(3, 5, dtype=torch.int64)
    sparse_head.activations(hidden_BLD, weight_VD, mask_BL, 1.0, 0.0).sum().backward()


def sparse_search() -> None:
    vectors = sparse.csr_matrix(np.eye(4, dtype=np.float32))
    SparseIndex(list("abcd"), vectors).search(list("qrst"), vectors, 2)


def dense_search() -> None:
    vectors = np.eye(4, dtype=np.float32)
    DenseIndex(list("abcd"), vectors).search(list("qrst"), vectors, 2)


@pytest.mark.parametrize("asked", [1, 2])
@pytest.mark.parametrize("kernels", [head, sparse_search, dense_search])
def test_threads_stay_what_they_were(kernels: Callable[[], None], asked: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(asked)
    try:
        kernels()
        assert torch.get_num_threads() == asked
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("asked", [1, 2])
def test_products_of_other_libraries_take_as_many(asked: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(asked)
    try:
        threads.blas_as_torch_has()
        pools = {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}
        assert pools == {asked} and torch.get_num_threads() == asked
    finally:
        torch.set_num_threads(before)
        threads.blas_as_torch_has()
