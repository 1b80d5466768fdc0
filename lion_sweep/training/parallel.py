"""Data parallelism: candidates from every device, gradients averaged over devices.

Each rank encodes its share of a step and computes the loss of its own queries against all ranks'
passages. The gradient of that gather sums what every rank has to say about a passage; averaging
the parameters' gradients afterwards then gives exactly the gradient of the mean loss.

Shapes: N rows of a rank, W ranks, D dimensions, E active entries of the rank with most.
"""

from dataclasses import astuple
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from lion_sweep.cost.meter import Spending

# An entry is 12 bytes (value and place), of a whole row 4.
TRAVELS_AS_ENTRIES = 0.25


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


class _GatherSparse(torch.autograd.Function):
    """The same for rows whose zeros pass no gradient on: only the other entries travel."""

    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor, entries: int) -> Tensor:
        flat, ranks = rows_ND.flatten(), dist.get_world_size()
        found = flat.nonzero()[:, 0]
        # Ranks with fewer entries add zeros to the first place.
        place_E = found.new_zeros(entries)
        value_E = flat.new_zeros(entries)
        place_E[: len(found)], value_E[: len(found)] = found, flat[found]
        place_WE, value_WE = place_E.new_empty(ranks, entries), value_E.new_empty(ranks, entries)
        dist.all_gather(list(place_WE), place_E)
        dist.all_gather(list(value_WE), value_E)
        ctx.place_WE, ctx.active_WE, ctx.shape = place_WE, value_WE != 0, rows_ND.shape
        whole = flat.new_zeros(ranks, flat.numel()).scatter_add_(1, place_WE, value_WE)
        return whole.view(-1, rows_ND.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ranks, rank = len(ctx.place_WE), dist.get_rank()
        value_WE = grad.reshape(ranks, -1).gather(1, ctx.place_WE) * ctx.active_WE
        dist.all_reduce(value_WE)
        own = grad.new_zeros(ctx.shape.numel())
        return own.scatter_add_(0, ctx.place_WE[rank], value_WE[rank]).view(ctx.shape), None


def gather(rows_ND: Tensor, accelerator: Accelerator, *, sparse: bool = False) -> Tensor:
    """Every rank's rows, in the order of ranks, with gradients to all of them.

    `sparse` rows are 0 where no gradient passes (behind a relu). Where few of their entries are
    not, those alone travel, with their places: as exact, and less than whole rows.
    """
    if accelerator.num_processes == 1:
        return rows_ND
    if sparse:
        entries = rows_ND.detach().count_nonzero()
        dist.all_reduce(entries, dist.ReduceOp.MAX)
        if int(entries) < rows_ND.numel() * TRAVELS_AS_ENTRIES:
            return _GatherSparse.apply(rows_ND, max(1, int(entries)))
    return _Gather.apply(rows_ND)


def average_gradients(parameters: list[torch.nn.Parameter], accelerator: Accelerator) -> None:
    """Replace every gradient by its mean over the ranks, in one exchange.

    An adapter has hundreds of small gradients, and each exchange waits for the slowest rank.
    """
    if accelerator.num_processes == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    means = accelerator.reduce(together, reduction="mean")
    for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def most(count: int, accelerator: Accelerator) -> int:
    if accelerator.num_processes == 1:
        return count
    largest = torch.tensor(count, device=accelerator.device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def over_ranks(spent: Spending, accelerator: Accelerator) -> Spending:
    if accelerator.num_processes == 1:
        return spent
    counts = torch.tensor(astuple(spent), dtype=torch.int64, device=accelerator.device)
    return Spending(*accelerator.reduce(counts, reduction="sum").tolist())


def mean_over_ranks(value: float, accelerator: Accelerator) -> float:
    """The mean of the ranks' values, the same to all; not a number where one of them is not."""
    if accelerator.num_processes == 1:
        return value
    values = torch.tensor(value, dtype=torch.float64, device=accelerator.device)
    return float(accelerator.reduce(values, reduction="mean"))
