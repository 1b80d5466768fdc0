"""Data parallelism: candidates from every device, gradients averaged over devices.

Each rank encodes its share of a step and computes the loss of its own queries against all ranks'
passages. The gradient of that gather sums what every rank has to say about a passage; averaging
the parameters' gradients afterwards then gives exactly the gradient of the mean loss.

Shapes: N rows of a rank, D dimensions.
"""

from dataclasses import astuple
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from lion_sweep.meter import Spending


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor) -> Tensor:
        parts = [torch.empty_like(rows_ND) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows_ND.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather(rows_ND: Tensor, accelerator: Accelerator) -> Tensor:
    """Every rank's rows, in the order of ranks, with gradients to all of them."""
    if accelerator.num_processes == 1:
        return rows_ND
    gathered: Tensor = _Gather.apply(rows_ND)
    return gathered


def average_gradients(parameters: list[torch.nn.Parameter], accelerator: Accelerator) -> None:
    """Replace every gradient by its mean over the ranks."""
    if accelerator.num_processes == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")


def over_ranks(spent: Spending, accelerator: Accelerator) -> Spending:
    """What all ranks together spent."""
    if accelerator.num_processes == 1:
        return spent
    counts = torch.tensor(astuple(spent), dtype=torch.int64, device=accelerator.device)
    return Spending(*accelerator.reduce(counts, reduction="sum").tolist())
