"""Where a training loop runs, and who hears of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator


def _nothing(_: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Run:
    """One loop: nothing in here changes what it computes."""

    accelerator: Accelerator
    folder: Path  # of checkpoints
    checkpoint_every: int  # steps
    on_step: Callable[[int, int, dict[str, float]], None]  # done, of how many, values
    on_kept: Callable[[int], None] = _nothing  # steps that no kill can undo
