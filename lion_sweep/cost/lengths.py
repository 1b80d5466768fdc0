"""How texts of given lengths are padded in micro-batches, counted and not cut.

Shapes: K parts of some steps, L a length.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


def padded_counts(real_KL: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
    """How many texts of each part are padded to each length, [K, L], from its texts of each length.

    The micro-batches are those of `batches.micro_batches`.
    """
    padded_KL = np.zeros_like(real_KL)
    _pad(real_KL.copy(), tokens, padded_KL)
    return padded_KL


@njit(cache=True, nogil=True)
def _pad(left_KL, tokens, padded_KL):  # type: ignore[no-untyped-def]
    for part in range(len(left_KL)):
        left_L, length = left_KL[part], left_KL.shape[1] - 1
        longest, room = 0, 0  # of the micro-batch that is being filled
        while length > 0:
            if left_L[length] == 0:
                length -= 1
                continue
            if room == 0:
                longest, room = length, max(1, tokens // length)
            taken = min(room, left_L[length])
            padded_KL[part, longest] += taken
            left_L[length] -= taken
            room -= taken
