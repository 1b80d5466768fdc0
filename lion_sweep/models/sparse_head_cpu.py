"""The sparse head's kernels on the CPU: matrix products by torch, what is ragged by numba.

Those of other devices take and give the same; sums are accumulated in fp32. Shapes: see
sparse_head.py.
"""

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from lion_sweep.machine import threads

CHUNK = 2048  # vocabulary entries whose logits are made at once


def maxima(hidden_TD: Tensor, start_P: Tensor, weight_CD: Tensor) -> tuple[Tensor, Tensor]:
    """Largest logit of every text, [B, C] fp32 (-inf without tokens), and where, int16."""
    logits_TC = (hidden_TD @ weight_CD.T).float()
    shape = len(start_P) - 1, len(weight_CD)
    largest_BC, place_BC = torch.empty(shape), torch.empty(shape, dtype=torch.int16)
    threads.as_torch_has()
    _maxima(logits_TC.numpy(), start_P.numpy(), largest_BC.numpy(), place_BC.numpy())
    return largest_BC, place_BC


def add_hidden_gradient(
    total_TD: Tensor, grad_BC: Tensor, place_BC: Tensor, start_P: Tensor, weight_CD: Tensor
) -> None:
    """Add a chunk's gradient of the hidden states to `total_TD` (fp32)."""
    tensors = total_TD, grad_BC, place_BC, start_P, weight_CD.float()
    threads.as_torch_has()
    _add_hidden_gradient(numba.get_num_threads(), *(tensor.numpy() for tensor in tensors))


def weight_gradient(
    grad_BC: Tensor, place_BC: Tensor, start_P: Tensor, hidden_TD: Tensor
) -> Tensor:
    """A chunk's gradient of the weight, [C, D] fp32."""
    total_CD = torch.zeros(grad_BC.shape[1], hidden_TD.shape[1])
    arrays = grad_BC, place_BC, start_P, hidden_TD.float()
    threads.as_torch_has()
    _add_weight_gradient(total_CD.numpy(), *(array.numpy() for array in arrays))
    return total_CD


@njit(cache=True, parallel=True)
def _maxima(logits_TC, start_P, largest_BC, place_BC):  # type: ignore[no-untyped-def]
    for text in prange(len(largest_BC)):
        largest_C, place_C = largest_BC[text], place_BC[text]
        largest_C[:] = -np.inf
        place_C[:] = 0
        for token in range(start_P[text], start_P[text + 1]):
            place = np.int16(token - start_P[text])
            for entry in range(len(largest_C)):
                logit = logits_TC[token, entry]
                if logit > largest_C[entry] or logit != logit:  # also what is not a number
                    largest_C[entry], place_C[entry] = logit, place


@njit(cache=True, parallel=True)
def _add_hidden_gradient(workers, total_TD, grad_BC, place_BC, start_P, weight_CD):  # type: ignore[no-untyped-def]
    texts = len(grad_BC)
    for worker in prange(workers):  # each has texts of its own, hence tokens
        for first in range(0, len(weight_CD), 64):  # rows of the weight that stay in the cache
            for text in range(worker, texts, workers):
                for entry in range(first, min(first + 64, len(weight_CD))):
                    grad = grad_BC[text, entry]
                    if grad != 0:
                        total_D = total_TD[start_P[text] + place_BC[text, entry]]
                        for dimension in range(len(total_D)):
                            total_D[dimension] += grad * weight_CD[entry, dimension]


@njit(cache=True, parallel=True)
def _add_weight_gradient(total_CD, grad_BC, place_BC, start_P, hidden_TD):  # type: ignore[no-untyped-def]
    for entry in prange(len(total_CD)):
        total_D = total_CD[entry]
        for text in range(len(grad_BC)):
            grad = grad_BC[text, entry]
            if grad != 0:
                token = start_P[text] + place_BC[text, entry]
                for dimension in range(len(total_D)):
                    total_D[dimension] += grad * hidden_TD[token, dimension]
