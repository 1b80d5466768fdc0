"""What is published about the accelerators that cells run on.

Peaks are those of dense bf16 matrix products with fp32 accumulation, from the makers' data sheets;
memory is what the data sheet calls GB, in GiB as the driver reports it (rounded down).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from lion_sweep.config.site import Site, SiteName
from lion_sweep.errors import OutOfMemory, UserError


@dataclass(frozen=True)
class Device:
    """An accelerator; None is a number that is not known."""

    name: str
    peak_flops: float | None
    memory_bytes: int | None
    gpu: bool = True

    @property
    def usable_bytes(self) -> float | None:
        """What the CUDA context and the allocator's fragments leave to tensors."""
        return None if self.memory_bytes is None else 0.94 * self.memory_bytes


@contextmanager
def enough_memory(work: str, remedy: Callable[[], str | None]) -> Iterator[None]:
    """Turn a lack of memory into `OutOfMemory`, which names the overrides that `remedy` gives."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        change, reason = remedy(), str(error).split(".")[0]
        advice = "Nothing smaller is left to try: take a larger device."
        if change:
            advice = f"Give the same command with {change}: it goes on from what is kept."
        raise OutOfMemory(f"{work}: {reason}. {advice}") from None


def halved(key: str, tokens: int, least: int) -> str | None:
    """The override that halves a number of tokens, unless a text of `least` would not fit."""
    return f"{key}={tokens // 2}" if tokens // 2 >= least else None


GIB = 1 << 30
# name -> (part of CUDA's name for it, peak TFLOP/s, GiB). Longer names first: A100-SXM4-80GB holds
# A100. A form factor with a lower peak has a name of its own.
KNOWN = {
    "b200": ("B200", 2250, 178),
    "h200": ("H200", 989, 139),
    "h100-pcie": ("H100 PCIe", 756, 79),
    "h100": ("H100", 989, 79),
    "a100-80gb": ("A100-SXM4-80GB", 312, 79),
    "a100-80gb-pcie": ("A100 80GB PCIe", 312, 79),
    "a100-40gb": ("A100", 312, 39),
    "l40s": ("L40S", 362, 44),
    "a6000": ("RTX A6000", 155, 47),
    "a40": ("A40", 150, 44),
    "a10g": ("A10G", 70, 22),
}
CPU = "cpu"


def device(site: Site) -> Device:
    """What `site.device` names; auto is what torch finds here. Refuses a name nothing is known of.

    `site.peak_tflops` and `site.memory_gib` replace or supply what is not published.
    """
    asked = _found(site) if site.device == "auto" else site.device
    known = KNOWN.get(asked, ("", None, None))
    peak, memory = site.peak_tflops or known[1], site.memory_gib or known[2]
    if asked == CPU:
        memory = memory or psutil.virtual_memory().total / GIB
    elif site.device == "auto":
        memory = memory or torch.cuda.get_device_properties(0).total_memory / GIB
    elif peak is None or memory is None:
        raise UserError(
            f"site.device={asked} is not known: choose {', '.join([*KNOWN, CPU])}, or say what it "
            f"is with site.peak_tflops=NUMBER site.memory_gib=NUMBER."
        )
    peak_flops = None if peak is None else peak * 1e12
    memory_bytes = None if memory is None else int(memory * GIB)
    return Device(asked, peak_flops, memory_bytes, gpu=asked != CPU)


def _found(site: Site) -> str:
    if site.name is SiteName.laptop or not torch.cuda.is_available():
        return CPU
    cuda = torch.cuda.get_device_name()
    return next((name for name, (part, *_) in KNOWN.items() if part in cuda), cuda)
