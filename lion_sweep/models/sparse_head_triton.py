"""The sparse head's kernels on CUDA, in Triton.

A tile of the logits [T, C] lives in registers only, and ends as the largest logit of every text
that it has tokens of. Every run gives the same numbers: what several programs do to one number is a
maximum, which has no order, a sum belongs to one program, and no tile shape that is tuned changes
the order of a sum.

Tensors are contiguous, apart from `place_BC`. Shapes: see sparse_head.py; E are the entries of
[B, C] that have a gradient, sorted by token, and N all of them. Inside a kernel T, C, D, E and N
are a tile's part.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 16384  # vocabulary entries at once; memory.py counts with the same

# From this share of [B, C] with a gradient, a product with the whole weight takes less time than
# gathering rows of it: tokens of a text (75 to 128) times bandwidth (4.8 TB/s) over operations per
# second (700 T) is 0.5 to 0.9 on H200.
DENSE = 0.5

LAST = tl.constexpr(torch.iinfo(torch.int16).max)  # position in a text
LOWEST = tl.constexpr(torch.iinfo(torch.int32).min)
HIGHEST = tl.constexpr(torch.iinfo(torch.int32).max)
NOTHING = (-0x7F800001 << 32) | LAST.value  # -inf at position 0, as `_maxima` packs it

# Without a GPU kernels run in Triton's interpreter, which takes bf16 for integers in products.
INTERPRETED = triton.knobs.runtime.interpret

# fp32 is multiplied exactly, thus without tensor cores, in tiles that the other units can hold.
SMALL = {"BLOCK_T": 64, "BLOCK_C": 64, "BLOCK_D": 32, "num_warps": 4, "num_stages": 3}


def _tiles(*shapes: tuple[int, int, int, int, int]) -> list[triton.Config]:
    """To be tuned for a hidden size; at least one fits every GPU that has bf16."""
    return [
        triton.Config({"BLOCK_T": tokens, "BLOCK_C": entries, "BLOCK_D": width}, warps, stages)
        for tokens, entries, width, warps, stages in shapes
    ]


def maxima(hidden_TD: Tensor, start_P: Tensor, weight_CD: Tensor) -> tuple[Tensor, Tensor]:
    """As in sparse_head_cpu.py."""
    (tokens, width), shape = hidden_TD.shape, (len(start_P) - 1, len(weight_CD))
    packed_BC = hidden_TD.new_full(shape, NOTHING, dtype=torch.int64)
    tensors = hidden_TD, _texts(start_P, tokens), start_P, weight_CD, packed_BC
    arguments = *tensors, tokens, shape[1], width, _factor(hidden_TD)

    def grid(tile: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(tokens, tile["BLOCK_T"]) * triton.cdiv(shape[1], tile["BLOCK_C"]),)

    if _is_tuned(hidden_TD):
        _tuned_maxima[grid](*arguments)
    else:
        _maxima[grid](*arguments, **SMALL)
    largest_BC = torch.empty_like(packed_BC, dtype=torch.float32)
    place_BC = torch.empty_like(packed_BC, dtype=torch.int16)
    count = packed_BC.numel()
    _unpack[triton.cdiv(count, 1024),](packed_BC, largest_BC, place_BC, count, BLOCK_N=1024)
    return largest_BC, place_BC


def add_hidden_gradient(
    total_TD: Tensor, grad_BC: Tensor, place_BC: Tensor, start_P: Tensor, weight_CD: Tensor
) -> None:
    """As in sparse_head_cpu.py.

    Like autocast, the product for many entries takes gradients in the weight's type, and brings a
    weight that is not a number to every token.
    """
    flat_E = grad_BC.flatten().nonzero()[:, 0]
    if len(flat_E) > DENSE * grad_BC.numel():
        add_by_product(total_TD, grad_BC, place_BC, start_P, weight_CD)
    else:
        add_by_rows(total_TD, grad_BC, place_BC, start_P, weight_CD, flat_E)


def add_by_product(
    total_TD: Tensor, grad_BC: Tensor, place_BC: Tensor, start_P: Tensor, weight_CD: Tensor
) -> None:
    """`add_hidden_gradient` as [T, C] by [C, D]; the first is made from what each text has."""
    (tokens, width), entries = total_TD.shape, len(weight_CD)
    tensors = grad_BC, place_BC.contiguous(), _texts(start_P, tokens), start_P, weight_CD
    arguments = total_TD, *tensors, tokens, entries, width, _factor(weight_CD)

    def grid(tile: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(tokens, tile["BLOCK_T"]), triton.cdiv(width, tile["BLOCK_D"])

    if _is_tuned(weight_CD):
        _tuned_product[grid](*arguments)
    else:
        _add_product[grid](*arguments, **SMALL)


def add_by_rows(
    total_TD: Tensor,
    grad_BC: Tensor,
    place_BC: Tensor,
    start_P: Tensor,
    weight_CD: Tensor,
    flat_E: Tensor,
) -> None:
    """`add_hidden_gradient` entry by entry; `flat_E` are those with a gradient, ascending."""
    (tokens, width), entries = total_TD.shape, len(weight_CD)
    token_E = start_P[flat_E // entries] + place_BC.flatten()[flat_E]
    token_E, order_E = token_E.int().sort(stable=True)
    ends = torch.arange(tokens + 1, device=token_E.device, dtype=torch.int32)
    first_T = torch.searchsorted(token_E, ends)  # and, last, E
    grid = tokens, triton.cdiv(width, 256)
    tensors = grad_BC, flat_E[order_E], first_T, weight_CD
    _add_rows[grid](total_TD, *tensors, entries, width, BLOCK_E=16, BLOCK_D=256)


def weight_gradient(
    grad_BC: Tensor, place_BC: Tensor, start_P: Tensor, hidden_TD: Tensor
) -> Tensor:
    """As in sparse_head_cpu.py."""
    (texts, entries), width = grad_BC.shape, hidden_TD.shape[1]
    total_CD = torch.empty(entries, width, device=grad_BC.device)
    grid = triton.cdiv(entries, 16), triton.cdiv(width, 256)
    tensors = grad_BC, place_BC.contiguous(), start_P, hidden_TD
    _weight_gradient[grid](total_CD, *tensors, texts, entries, width, BLOCK_C=16, BLOCK_D=256)
    return total_CD


def _texts(start_P: Tensor, tokens: int) -> Tensor:
    """The text of every token."""
    token_T = torch.arange(tokens, device=start_P.device)
    return torch.searchsorted(start_P[1:], token_T, right=True, out_int32=True)


def _is_tuned(tensor: Tensor) -> bool:
    return tensor.element_size() == 2 and not INTERPRETED


def _factor(tensor: Tensor) -> tl.dtype:
    """The type in which products take numbers of a tensor."""
    name = "float32" if INTERPRETED else str(tensor.dtype).removeprefix("torch.")
    return getattr(tl, name)


@triton.jit
def _maxima(  # type: ignore[no-untyped-def]
    hidden_TD,
    text_T,
    start_P,
    weight_CD,
    packed_BC,
    tokens,
    entries,
    width,
    FACTOR: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Logits of a tile, then for every text in it the largest and its first position.

    The two are one integer, so that one atomic maximum of all tiles decides on both: above, the
    bits of the logit, ordered as integers are; below, the position with all bits flipped, so that
    of equal logits the first one wins.
    """
    tiles_T, tiles_C = tl.cdiv(tokens, BLOCK_T), tl.cdiv(entries, BLOCK_C)
    # Programs that run at the same time share tiles of both sides in the L2 cache.
    tile_T, tile_C = tl.program_id(0) // tiles_C, tl.program_id(0) % tiles_C
    tile_T, tile_C = tl.swizzle2d(tile_T, tile_C, tiles_T, tiles_C, 8)
    first_token = tile_T * BLOCK_T
    token_T = first_token + tl.arange(0, BLOCK_T)
    entry_C = tile_C * BLOCK_C + tl.arange(0, BLOCK_C)
    place_D = tl.arange(0, BLOCK_D)
    # Rows beyond the last are any others: they end in no text, or in no entry.
    other_T, other_C = (token_T % tokens).to(tl.int64), (entry_C % entries).to(tl.int64)
    hidden_at = hidden_TD + other_T[None, :] * width + place_D[:, None]
    weight_at = weight_CD + other_C[:, None] * width + place_D[None, :]
    # Tokens are columns, since a thread has more numbers of a row than of a column.
    logits = tl.zeros((BLOCK_C, BLOCK_T), tl.float32)
    for first in range(0, width, BLOCK_D):
        inside_D = place_D < width - first
        hidden = tl.load(hidden_at + first, mask=inside_D[:, None], other=0.0).to(FACTOR)
        weight = tl.load(weight_at + first, mask=inside_D[None, :], other=0.0).to(FACTOR)
        logits = tl.dot(weight, hidden, logits, input_precision="ieee")
    bits = logits.to(tl.int32, bitcast=True)  # sums from 0.0 are never -0.0
    bits = tl.where(bits < 0, bits ^ HIGHEST, bits)
    bits = tl.where(logits == logits, bits, HIGHEST)  # what is not a number is above all
    last_token = tl.minimum(first_token + BLOCK_T, tokens) - 1
    for text in range(tl.load(text_T + first_token), tl.load(text_T + last_token) + 1):
        start, end = tl.load(start_P + text), tl.load(start_P + text + 1)
        if start < end:  # or its result stands
            inside_T = (token_T >= start) & (token_T < end)
            candidates = tl.where(inside_T[None, :], bits, LOWEST)
            largest_C = tl.max(candidates, axis=1)
            attaining = tl.where(candidates == largest_C[:, None], token_T[None, :], HIGHEST)
            place_C = tl.min(attaining, axis=1) - start
            packed_C = (largest_C.to(tl.int64) << 32) | (place_C ^ LAST)
            packed_at = packed_BC + text * entries + entry_C
            tl.atomic_max(packed_at, packed_C, mask=entry_C < entries, sem="relaxed")


# The maximum of a tile that has been there already changes nothing, so that tuning needs no reset.
_tuned_maxima = triton.autotune(
    _tiles((128, 256, 64, 8, 3), (256, 128, 64, 8, 3), (128, 128, 64, 4, 3), (64, 128, 64, 4, 2)),
    key=["width"],
)(_maxima)


@triton.jit
def _unpack(packed_N, largest_N, place_N, count, BLOCK_N: tl.constexpr):  # type: ignore[no-untyped-def]
    item_N = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside_N = item_N < count
    packed = tl.load(packed_N + item_N, mask=inside_N)
    bits = (packed >> 32).to(tl.int32)
    bits = tl.where(bits < 0, bits ^ HIGHEST, bits)
    tl.store(largest_N + item_N, bits.to(tl.float32, bitcast=True), mask=inside_N)
    tl.store(place_N + item_N, ((packed & LAST) ^ LAST).to(tl.int16), mask=inside_N)


@triton.jit
def _add_product(  # type: ignore[no-untyped-def]
    total_TD,
    grad_BC,
    place_BC,
    text_T,
    start_P,
    weight_CD,
    tokens,
    entries,
    width,
    FACTOR: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    token_T = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    place_D = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside_T, inside_D = token_T < tokens, place_D < width
    text = tl.load(text_T + token_T, mask=inside_T, other=0)
    position = (token_T - tl.load(start_P + text)).to(tl.int16)
    total_at = total_TD + token_T[:, None].to(tl.int64) * width + place_D[None, :]
    inside = inside_T[:, None] & inside_D[None, :]
    total = tl.load(total_at, mask=inside, other=0.0)
    for first in range(0, entries, BLOCK_C):
        entry_C = first + tl.arange(0, BLOCK_C)
        inside_C = entry_C < entries
        item = text[:, None] * entries + entry_C[None, :]
        place = tl.load(place_BC + item, mask=inside_C[None, :], other=-1)
        grad = tl.load(grad_BC + item, mask=inside_C[None, :], other=0.0)
        grad = tl.where(place == position[:, None], grad, 0.0)
        weight_at = weight_CD + entry_C[:, None] * width + place_D[None, :]
        weight = tl.load(weight_at, mask=inside_C[:, None] & inside_D[None, :], other=0.0)
        grad = grad.to(weight.dtype).to(FACTOR)
        total = tl.dot(grad, weight.to(FACTOR), total, input_precision="ieee")
    tl.store(total_at, total, mask=inside)


_tuned_product = triton.autotune(
    _tiles((128, 64, 256, 8, 3), (128, 64, 128, 8, 2), (64, 64, 128, 4, 2)),
    key=["width"],
    restore_value=["total_TD"],
)(_add_product)


@triton.jit
def _add_rows(  # type: ignore[no-untyped-def]
    total_TD,
    grad_BC,
    flat_E,
    first_T,
    weight_CD,
    entries,
    width,
    BLOCK_E: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One token; those at work together read the same columns of the weight, from the L2 cache."""
    token = tl.program_id(0)
    place_D = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside_D = place_D < width
    first, last = tl.load(first_T + token), tl.load(first_T + token + 1)
    total_D = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(first, last, BLOCK_E):
        item_E = start + tl.arange(0, BLOCK_E)
        inside_E = item_E < last
        flat = tl.load(flat_E + item_E, mask=inside_E, other=0)
        grad = tl.load(grad_BC + flat, mask=inside_E, other=0.0)
        weight_at = weight_CD + (flat % entries)[:, None] * width + place_D[None, :]
        weight = tl.load(weight_at, mask=inside_E[:, None] & inside_D[None, :], other=0.0)
        total_D += tl.sum(grad[:, None] * weight.to(tl.float32), axis=0)
    total_at = total_TD + token.to(tl.int64) * width + place_D
    tl.store(total_at, tl.load(total_at, mask=inside_D) + total_D, mask=inside_D)


@triton.jit
def _weight_gradient(  # type: ignore[no-untyped-def]
    total_CD,
    grad_BC,
    place_BC,
    start_P,
    hidden_TD,
    texts,
    entries,
    width,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Text after text, without those that have no gradient here."""
    entry_C = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    place_D = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside_C, inside_D = entry_C < entries, place_D < width
    total = tl.zeros((BLOCK_C, BLOCK_D), tl.float32)
    for text in range(texts):
        item_C = text * entries + entry_C
        grad = tl.load(grad_BC + item_C, mask=inside_C, other=0.0)
        active_C = grad != 0
        if tl.max(active_C.to(tl.int32), axis=0) > 0:
            place = tl.load(place_BC + item_C, mask=active_C, other=0)
            token_C = tl.load(start_P + text) + place
            hidden_at = hidden_TD + token_C[:, None] * width + place_D[None, :]
            inside = active_C[:, None] & inside_D[None, :]
            hidden = tl.load(hidden_at, mask=inside, other=0.0)
            total += grad[:, None] * hidden.to(tl.float32)
    total_at = total_CD + entry_C[:, None].to(tl.int64) * width + place_D[None, :]
    tl.store(total_at, total, mask=inside_C[:, None] & inside_D[None, :])
