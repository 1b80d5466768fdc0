"""How stages are carried out: on what, and in which portions. None of it stands in any key.

Portions change sums by rounding, and nothing else changes a number.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from lion_sweep.config import Config, Precision
from lion_sweep.config.site import SiteName, Verify, When
from lion_sweep.machine.devices import Device, device


@dataclass(frozen=True)
class Execution:
    """Where and how; `precision` is what the forward passes of this process are in."""

    site: SiteName
    device: Device
    devices: int
    precision: Precision
    micro_batch_tokens: int  # padded ones of a part of a training step, at most
    batch_tokens: int  # the same of encoding
    shard_tokens: int  # real ones of a shard of texts to encode
    gradient_cache: When
    shard: When
    compile: bool
    checkpoint_every: int  # steps
    verify: Verify = Verify.once

    @classmethod
    def of(cls, config: Config, site: SiteName) -> "Execution":
        """As a settled configuration says, on `site`, which is never `auto`."""
        assert config.site.devices is not None, "a settled configuration says how many"
        return cls(
            site,
            device(replace(config.site, name=site)),
            config.site.devices,
            config.recipe.precision,
            config.recipe.micro_batch_tokens,
            config.evaluation.batch_tokens,
            config.site.shard_tokens,
            config.recipe.gradient_cache,
            config.site.shard,
            config.site.compile,
            config.recipe.checkpoint_every,
            config.site.verify,
        )

    def at(self, precision: Precision) -> "Execution":
        """The same in another precision: that of a finished cell, say."""
        return self if precision is self.precision else replace(self, precision=precision)

    @property
    def accelerator(self) -> Accelerator:
        """accelerate's view of this process, which may have computed in another precision since."""
        state = AcceleratorState._shared_state
        if state and state.get("_mixed_precision", self._mixed) != self._mixed:
            AcceleratorState._reset_state()  # it knows one precision; ranks stay as they are
            self.__dict__.pop("_accelerator", None)
        return self._accelerator

    @property
    def _mixed(self) -> str:
        return "bf16" if self.precision is Precision.bf16 else "no"

    @cached_property
    def _accelerator(self) -> Accelerator:
        return Accelerator(cpu=self.site is SiteName.laptop, mixed_precision=self._mixed)

    @property
    def leads(self) -> bool:
        """Whether this rank writes what only one may write."""
        return bool(self.accelerator.is_main_process)

    def frozen_dtype(self, frozen: bool) -> torch.dtype:
        """Frozen weights need no more precision than the products they are used in."""
        low = frozen and self.precision is Precision.bf16
        return torch.bfloat16 if low else torch.float32
