"""Where a benchmark runs: the CPU in fp32, or CUDA in bf16 with its clocks, memory and peak."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lion_sweep.config.site import Site, SiteName
from lion_sweep.machine import devices


@dataclass(frozen=True)
class Device:
    """What `Embedding` reads of an accelerator; a process may have several of other precision."""

    device: torch.device
    bf16: bool
    num_processes: int = 1

    def autocast(self) -> torch.autocast:
        """Matrix products in bf16, or nothing."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Return when all that was asked for is done."""
        if self.cuda:
            torch.cuda.synchronize()

    @property
    def name(self) -> str | None:
        """Of the GPU; None on the CPU."""
        return torch.cuda.get_device_name() if self.cuda else None


CPU = Device(torch.device("cpu"), bf16=False)


def gpu() -> Device:
    """CUDA in bf16; ends the benchmark where there is none."""
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark measures a GPU, and torch finds no CUDA here.")
    return Device(torch.device("cuda"), bf16=True)


def published() -> devices.Device:
    """What is known of the GPU here."""
    return devices.device(Site(name=SiteName.gpu, device="auto"))


def peak(side: Callable[[], object]) -> tuple[int, int]:
    """(most bytes that CUDA's allocator had given out while `side` ran, what it had before)."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    side()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated(), before


def share_of_peak(flops: int, seconds: float) -> float | None:
    """FLOPs per second as a share of the GPU's published peak; None where that is not known."""
    most = published().peak_flops
    return flops / seconds / most if most else None


def utilisation(flops: int, seconds: float) -> str:
    """The same in words."""
    share = share_of_peak(flops, seconds)
    return "peak not known" if share is None else f"{share:.1%}"
