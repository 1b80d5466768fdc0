"""Signals that ask a job to stop: noted when they come, obeyed between two steps.

A step cannot be left in its middle without losing it, so the handler only takes a note; loops ask
`requested` where they can stop, keep what they have and raise `Interrupted`.
"""

import signal
from types import FrameType
from typing import TYPE_CHECKING

from lion_sweep.errors import Interrupted

if TYPE_CHECKING:
    from accelerate import Accelerator

_received: int | None = None


def listen(*signals: int) -> None:
    """From now on, note these signals instead of dying of them; those held back come now."""
    for number in signals:
        signal.signal(number, _note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _note(number: int, _: FrameType | None) -> None:
    global _received
    _received = _received or number  # the first one says why; SIGTERM follows whatever it was


def received() -> int | None:
    """The first signal that was noted, or None."""
    return _received


def requested(accelerator: "Accelerator | None" = None) -> bool:
    """Whether to stop here; all ranks agree, as the signal reaches them between different steps."""
    if accelerator is None or accelerator.num_processes == 1:
        return _received is not None
    import torch  # here, as launchers need not wait for it

    noted = torch.tensor(int(_received is not None), device=accelerator.device)
    return bool(accelerator.reduce(noted, reduction="sum").item())


def stop() -> Interrupted:
    """What to raise when it was requested and everything is kept."""
    name = signal.Signals(_received).name if _received is not None else "another rank's signal"
    return Interrupted(f"stopped by {name}")
