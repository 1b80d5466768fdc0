"""Counting live bytes without the memory: fake tensors that act as CUDA's would.

Fake tensors have shapes and storages but no values. Three functions stand in for what CUDA would
run: attention with the memory-efficient kernel, dropout that keeps a mask of bytes, and `nonzero`
with every entry active (the most it can be).
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Sums the storages that are alive; `peak` is the most that were so at once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[int, int] = {}
        self.now = self.peak = 0
        self._resize = torch.UntypedStorage.resize_
        resized = self._resized
        self._watch = patch.object(
            torch.UntypedStorage, "resize_", lambda storage, size: resized(storage, size)
        )

    def __enter__(self) -> "LiveBytes":
        self._watch.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._watch.stop()

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is freed, once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.bytes:
            self.bytes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key)

    def _resized(self, storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
        """FSDP2 frees and refills gathered weights without a dispatch."""
        if storage._cdata in self.bytes:
            self.now += size - self.bytes[storage._cdata]
            self.bytes[storage._cdata] = size
            self.peak = max(self.peak, self.now)
        return self._resize(storage, size)

    def _remove(self, key: int) -> None:
        self.now -= self.bytes.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return result


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, scale: float, **_: Any
) -> Tensor:
    """What CUDA runs with a padding mask: a bias in the values' type, rows padded to 8."""
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (part.to(torch.bfloat16) for part in (query, key, value))
    length = attn_mask.shape[-1]
    bias = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, -torch.inf)
    bias = F.pad(bias, [0, -length % 8])[..., :length].expand(-1, query.shape[1], -1, -1)
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    return efficient(query, key, value, bias, True, scale=scale)[0]


def _dropout(hidden: Tensor, p: float, training: bool, inplace: bool = False) -> Tensor:
    return torch.native_dropout(hidden, p, training)[0] if p else hidden


def _nonzero(tensor: Tensor, as_tuple: bool) -> tuple[Tensor, ...]:
    return tensor.new_empty((tensor.numel(), tensor.dim()), dtype=torch.int64).unbind(1)


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Fake tensors on the CPU, and CUDA's choice of kernels."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        patch.object(F, "scaled_dot_product_attention", _attention),
        patch.object(F, "dropout", _dropout),
        patch.object(Tensor, "nonzero", _nonzero),
    ):
        yield


def fake_ranks(count: int) -> DeviceMesh:
    """A mesh of as many ranks, of which this process is the first; nothing is communicated."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)
    return init_device_mesh("cpu", (count,))


def materialise(module: nn.Module) -> None:
    """Replace weights on the meta device by fake ones on the CPU; tied ones stay tied."""
    made: dict[int, Tensor] = {}
    for part in module.modules():
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
                    trains = tensor.requires_grad
                    made[id(tensor)] = (
                        nn.Parameter(empty, trains) if store is part._parameters else empty
                    )
                store[name] = made[id(tensor)]
