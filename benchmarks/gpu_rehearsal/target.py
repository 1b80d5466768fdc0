"""What a step is given, and what it yields."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import psutil
import torch

from benchmarks import interleaved, machine

GIB = 1 << 30
T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """Where a step runs, at which size, on which random numbers."""

    device: machine.Device
    tiny: bool
    seed: int

    def pick(self, full: T, tiny: T) -> T:
        """The size of this run."""
        return tiny if self.tiny else full

    @property
    def free_gib(self) -> float:
        """Memory of the device that nobody holds."""
        if self.device.cuda:
            return torch.cuda.mem_get_info()[0] / GIB
        return psutil.virtual_memory().available / GIB


@dataclass(frozen=True)
class Figure:
    """One measured number; None where this device cannot tell it."""

    what: str
    value: float | None
    unit: str = ""


@dataclass(frozen=True)
class Case:
    """A part of a step that fails, or does not fit, by itself.

    `gib` is the device's memory that the full size needs. Names begin the names of its figures.
    """

    name: str
    run: Callable[[], Iterable[Figure]]
    gib: float = 1.0


def target(device: str, tiny: bool, seed: int) -> Target:
    """Of the words of a command line: `cuda` in bf16, `cpu` in fp32."""
    return Target(machine.gpu() if device == "cuda" else machine.CPU, tiny, seed)


def card(device: str) -> str:
    """The name of what is measured."""
    return torch.cuda.get_device_name() if device == "cuda" else interleaved.processor()
