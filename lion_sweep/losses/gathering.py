"""A loss of what several devices have gathered, with the gradient that a released recipe gives it.

Where every device computes the same loss of everybody's vectors, sends its gradient back through
its own vectors alone, and gradients are then averaged over W devices, what comes out is the true
gradient divided by W. Losses of a device's own vectors have theirs undivided, so that W weighs one
against the other. Here W is a number of the recipe, whatever devices there are.
"""

from torch import Tensor


def gathered_over(value: Tensor, devices: int) -> Tensor:
    """The same value; its gradient is divided by `devices`."""
    if devices == 1:
        return value
    told = value.detach()
    return told + (value - told) / devices
