"""Which tokens of a text a vector is made of, on whichever side the padding is.

Shapes: B texts, L tokens (padded).
"""

from torch import Tensor


def pooled(
    ids_BL: Tensor,
    mask_BL: Tensor,
    bos: int | None,
    *,
    begin: bool = True,
    echo: bool = False,
    last: bool = False,
) -> Tensor:
    """The mask, [B, L], of the real tokens that are pooled; of all where nothing else is said.

    `bos` is the token that may begin a text, which `begin` says whether to pool. With `echo` a text
    is that token, its body, the body again, and perhaps one token that ends it: what is pooled
    begins with the second copy. `last` leaves the last of these. A text may have none.
    """
    if begin and not (echo or last):
        return mask_BL
    real_BL = mask_BL.bool()
    place_BL, length_B1 = real_BL.cumsum(dim=1) - 1, real_BL.sum(dim=1, keepdim=True)
    first_BL = real_BL & (place_BL == 0)
    begins_BL = first_BL & (ids_BL == bos) if bos is not None else first_BL & False
    pooled_BL = real_BL if begin else real_BL & ~begins_BL
    if echo:
        before_B1 = begins_BL.sum(dim=1, keepdim=True)
        # Rounded down, as one token after both copies is left over.
        pooled_BL = pooled_BL & (place_BL >= before_B1 + (length_B1 - before_B1) // 2)
    if last:
        pooled_BL = pooled_BL & (place_BL == length_B1 - 1)
    return pooled_BL.to(mask_BL.dtype)
