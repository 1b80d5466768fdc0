"""Decoder layers compiled by torch.compile: the same results to rounding, in fewer kernels.

Layers are compiled and not the model, so that all of them share their graphs, however many there
are. What is around them stays as it is: embeddings, masks, pooling, the sparse head. Lengths and
rows of a micro-batch are symbols in a graph, which therefore holds for every micro-batch. There is
one with gradients and one without, another for the first layer above frozen embeddings, and again
for a micro-batch without padding or of one text. Past torch's limit of eight, what is new to it
runs uncompiled.

Random numbers are drawn by the kernels that draw them without compiling, in the same order. So
dropout is the same as without, and so is its replay when gradients are cached.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lion_sweep.errors import UserError

if TYPE_CHECKING:  # they take seconds to import, for those who do not compile as well
    from torch._dynamo.callback import CallbackArgs

    from lion_sweep.models.backbone import Backbone

EAGER_RANDOM = {"fallback_random": True}  # inductor's option


def check_compiler(device: torch.device) -> None:
    """Raise `UserError` where torch has nothing to compile with for the device."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise UserError(
                "site.compile=true needs Triton and a GPU that it knows, and torch finds none: "
                "pip install triton, in the version that torch asks for, or site.compile=false."
            )
        return
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        raise UserError(
            "site.compile=true needs a C++ compiler, and torch finds none: install g++ (as root: "
            "apt-get install g++), name another in the variable CXX, or site.compile=false."
        ) from None


@dataclass
class Compilation:
    """What compiling has taken so far: graphs, and wall-clock seconds."""

    graphs: int = 0
    seconds: float = 0.0


@contextmanager
def compiled(backbone: "Backbone") -> Iterator[Compilation]:
    """Compile the decoder's layers, in place, whenever a pass needs a graph that is not there yet.

    Whatever this process compiles is counted. Graphs of before, of any module, are forgotten at the
    start, as they count towards torch's limit, and all at the end. Raises `UserError` where torch
    has nothing to compile with.
    """
    check_compiler(next(backbone.model.parameters()).device)
    from torch._dynamo.callback import CallbackTrigger, callback_handler

    taken, begun = Compilation(), 0.0

    def start(event: "CallbackArgs") -> None:
        nonlocal begun
        begun = time.perf_counter()
        # A backward pass, compiled when it is first needed, belongs to a graph that is counted.
        taken.graphs += event.callback_trigger is CallbackTrigger.DYNAMO

    def end(event: "CallbackArgs") -> None:
        taken.seconds += time.perf_counter() - begun

    torch.compiler.reset()
    callback_handler.register_start_callback(start)
    callback_handler.register_end_callback(end)
    for layer in backbone.decoder.get_submodule("layers").children():
        layer.compile(dynamic=True, options=EAGER_RANDOM)
    try:
        yield taken
    finally:
        torch.compiler.reset()  # callbacks too
