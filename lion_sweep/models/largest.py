"""The largest weights of sparse vectors, of equal ones those of lower entries.

Shapes: B texts, V vocabulary entries, E entries that are stored.
"""

import numpy as np
import torch
from numba import njit, prange
from scipy import sparse
from torch import Tensor

from lion_sweep.machine import threads


def largest(y_BV: Tensor, count: int) -> Tensor:
    """`y_BV` >= 0 with all but the `count` largest weights of each text 0, differentiable.

    The gradient passes through the weights that stay, and through no other. What is not a number
    stays so.
    """
    if count >= y_BV.shape[1]:
        return y_BV
    with torch.no_grad():
        least_B1 = y_BV.topk(count).values[:, -1:]
        kept_BV = y_BV >= least_B1
        # As a rule no weight equals the last one that stays; where that is 0, nothing has to go.
        several = ((kept_BV.sum(dim=1) > count) & (least_B1[:, 0] > 0)).nonzero()[:, 0]
        if len(several):
            tied_RV = y_BV[several] == least_B1[several]
            room_R1 = count - (kept_BV[several] & ~tied_RV).sum(dim=1, keepdim=True)
            kept_BV[several] &= ~(tied_RV & (tied_RV.cumsum(dim=1) > room_R1))
    return y_BV * kept_BV


def largest_of_rows(y_BV: sparse.csr_matrix, count: int | None) -> sparse.csr_matrix:
    """The same of CSR with ascending entries; None keeps all."""
    if count is None or np.diff(y_BV.indptr).max(initial=0) <= count:
        return y_BV
    kept_E = np.empty(y_BV.nnz, np.bool_)
    threads.as_torch_has()
    _mark(y_BV.indptr.astype(np.int64), y_BV.data, count, kept_E)
    return only(y_BV, kept_E)


def only(y_BV: sparse.csr_matrix, kept_E: np.ndarray) -> sparse.csr_matrix:
    """These entries of CSR."""
    ends = np.concatenate([[0], np.cumsum(kept_E)])
    parts = y_BV.data[kept_E], y_BV.indices[kept_E], ends[y_BV.indptr]
    return sparse.csr_matrix(parts, y_BV.shape)


@njit(cache=True, parallel=True)
def _mark(start_P, weight_E, count, kept_E):  # type: ignore[no-untyped-def]
    for text in prange(len(start_P) - 1):
        weights, kept = (
            weight_E[start_P[text] : start_P[text + 1]],
            kept_E[start_P[text] : start_P[text + 1]],
        )
        if len(weights) <= count:
            kept[:] = True
            continue
        least = np.partition(weights, len(weights) - count)[len(weights) - count]
        room = count - (weights > least).sum()
        for entry in range(len(weights)):
            tied = weights[entry] == least
            kept[entry] = weights[entry] > least or (tied and room > 0)
            room -= tied
