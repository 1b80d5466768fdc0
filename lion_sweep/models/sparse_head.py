"""The sparse head: y = log(1 + relu(s * (max_t <h_t, w_v - l> - c_v) - threshold)).

The logits [T, V] never exist: they are made for a chunk of the vocabulary at a time, and only the
largest of each text is kept, with the token that has it. The gradient goes to that token alone; of
tokens that tie, to the first. A text without tokens is 0 everywhere; what is not a number stays so.
The level l [D] and the centre c [V] are 0 where there are none, and never train.

Shapes: B texts, T tokens of all texts, one text after the other, D hidden dimensions, V vocabulary
entries, C of them in one chunk, E active ones. `start_P` [B + 1] has the first token of every text
and, last, T.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from scipy import sparse
from torch import Tensor

from lion_sweep.errors import UserError
from lion_sweep.models.largest import largest_of_rows

LONGEST = torch.iinfo(torch.int16).max + 1  # tokens of a text: positions are int16


def kernels_of(device: torch.device) -> ModuleType:
    """Imported late, as compilers come with them. Raises `UserError` where Triton is missing."""
    if device.type == "cuda":
        try:
            from lion_sweep.models import sparse_head_triton
        except ModuleNotFoundError as error:
            raise UserError(
                f"The sparse head on CUDA needs Triton ({error}), which torch's CUDA builds for "
                "Linux bring: pip install triton, in the version that torch asks for."
            ) from error
        return sparse_head_triton
    from lion_sweep.models import sparse_head_cpu

    return sparse_head_cpu


def activations(
    hidden_BLD: Tensor,
    weight_VD: Tensor,
    mask_BL: Tensor,
    scale: float,
    threshold: float,
    level_D: Tensor | None = None,
    centre_V: Tensor | None = None,
) -> Tensor:
    """y of every text, [B, V] in fp32, differentiable by states and weight.

    `mask_BL` is 1 for real tokens, wherever padding is. Raises `ValueError` for texts of more than
    32,768 tokens.
    """
    hidden_TD, start_P = packed(hidden_BLD, mask_BL)
    return head(hidden_TD, start_P, weight_VD, scale, threshold, level_D, centre_V)[0]


def winners(hidden_BLD: Tensor, weight_VD: Tensor, mask_BL: Tensor) -> Tensor:
    """Position among its text's real tokens of the one with the largest logit, [B, V] int16."""
    hidden_TD, start_P = packed(hidden_BLD, mask_BL)
    return head(hidden_TD, start_P, weight_VD, 1.0, 0.0)[1]


def rows(
    hidden_BLD: Tensor,
    weight_VD: Tensor,
    mask_BL: Tensor,
    scale: float,
    threshold: float,
    largest: int | None = None,
    level_D: Tensor | None = None,
    centre_V: Tensor | None = None,
) -> sparse.csr_matrix:
    """y as fp32 CSR, never held whole; of each text the `largest`, of equal ones lower entries."""
    hidden_TD, start_P = packed(hidden_BLD, mask_BL)
    parts = []
    for chunk, weight_CD in _chunks(hidden_TD, weight_VD, level_D):
        largest_BC, _ = kernels_of(hidden_TD.device).maxima(hidden_TD, start_P, weight_CD)
        y_BC = _activated(largest_BC, scale, threshold, _part(centre_V, chunk))
        parts.append(csr_of(y_BC, largest))
    return largest_of_rows(sparse.hstack(parts, format="csr"), largest)


def csr_of(y_BC: Tensor, largest: int | None) -> sparse.csr_matrix:
    """The weights that are not 0, of each text the `largest`, if given."""
    text, entry = y_BC.nonzero(as_tuple=True)
    y_E, text_E, entry_E = (found.cpu().numpy() for found in (y_BC[text, entry], text, entry))
    return largest_of_rows(sparse.csr_matrix((y_E, (text_E, entry_E)), tuple(y_BC.shape)), largest)


def packed(hidden_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
    """(hidden states of real tokens, [T, D], as autocast would have them; start_P)."""
    kind, real_BL = hidden_BLD.device.type, mask_BL.bool()
    if torch.is_autocast_enabled(kind):
        hidden_BLD = hidden_BLD.to(torch.get_autocast_dtype(kind))
    length_B = real_BL.sum(dim=1)
    if mask_BL.shape[1] > LONGEST and int(length_B.max()) > LONGEST:
        raise ValueError(f"the sparse head takes texts of up to {LONGEST:,} tokens")
    real_T = real_BL.flatten().nonzero(as_tuple=True)[0]
    start_P = torch.nn.functional.pad(length_B.cumsum(dim=0), (1, 0))
    return hidden_BLD.flatten(0, 1).index_select(0, real_T), start_P


def mean_of_largest(
    hidden_BLD: Tensor, weight_VD: Tensor, mask_BL: Tensor, level_D: Tensor
) -> Tensor:
    """The mean over texts, none of them empty, of max_t <h_t, w_v - l>, [V] in fp32."""
    hidden_TD, start_P = packed(hidden_BLD, mask_BL)
    kernels, chunks = kernels_of(hidden_TD.device), _chunks(hidden_TD, weight_VD, level_D)
    parts = (kernels.maxima(hidden_TD, start_P, part)[0] for _, part in chunks)
    return torch.cat([largest_BC.mean(dim=0) for largest_BC in parts])


def _chunks(
    hidden_TD: Tensor, weight_VD: Tensor, level_D: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """(which entries, w - l of them in the type of the states) of every chunk."""
    size = kernels_of(hidden_TD.device).CHUNK
    for first in range(0, len(weight_VD), size):
        weight_CD = weight_VD[first : first + size]
        if level_D is not None:
            weight_CD = weight_CD - level_D
        yield slice(first, first + len(weight_CD)), weight_CD.to(hidden_TD.dtype)


def _part(centre_V: Tensor | None, chunk: slice) -> Tensor | None:
    return None if centre_V is None else centre_V[chunk]


def _activated(
    largest_BC: Tensor, scale: float, threshold: float, centre_C: Tensor | None
) -> Tensor:
    if centre_C is not None:
        largest_BC = largest_BC.sub_(centre_C)
    return largest_BC.mul_(scale).sub_(threshold).relu_().log1p_()


@torch.library.custom_op("lion_sweep::sparse_head", mutates_args=())
def head(
    hidden_TD: Tensor,
    start_P: Tensor,
    weight_VD: Tensor,
    scale: float,
    threshold: float,
    level_D: Tensor | None = None,
    centre_V: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(y, [B, V] fp32; position in its text of the token that it comes from, [B, V] int16)."""
    kernels, texts, entries = kernels_of(hidden_TD.device), len(start_P) - 1, len(weight_VD)
    y_BV = hidden_TD.new_empty(texts, entries, dtype=torch.float32)
    place_BV = hidden_TD.new_empty(texts, entries, dtype=torch.int16)
    for chunk, weight_CD in _chunks(hidden_TD, weight_VD, level_D):
        largest_BC, place_BV[:, chunk] = kernels.maxima(hidden_TD, start_P, weight_CD)
        y_BV[:, chunk] = _activated(largest_BC, scale, threshold, _part(centre_V, chunk))
    return y_BV, place_BV


@head.register_fake
def _(hidden_TD, start_P, weight_VD, scale, threshold, level_D=None, centre_V=None):  # type: ignore[no-untyped-def]
    shape = len(start_P) - 1, len(weight_VD)
    return tuple(hidden_TD.new_empty(shape, dtype=dtype) for dtype in (torch.float32, torch.int16))


@torch.library.custom_op("lion_sweep::sparse_head_backward", mutates_args=())
def head_backward(
    grad_BV: Tensor,
    y_BV: Tensor,
    place_BV: Tensor,
    start_P: Tensor,
    hidden_TD: Tensor,
    weight_VD: Tensor,
    level_D: Tensor | None,
    scale: float,
    asked: list[bool],
) -> tuple[Tensor, Tensor]:
    """Gradients of the hidden states and of the weight, fp32; empty where not `asked`."""
    kernels = kernels_of(hidden_TD.device)
    total_TD, total_VD = _gradients(hidden_TD, weight_VD, asked)
    for chunk, weight_CD in _chunks(hidden_TD, weight_VD, level_D):
        # From dy/dz = 1 / (1 + z) = exp(-y), where relu let z through.
        y_BC, place_BC = y_BV[:, chunk], place_BV[:, chunk]
        slope_BC = torch.exp(-y_BC).mul_(scale)
        grad_BC = slope_BC.mul_(grad_BV[:, chunk]).masked_fill_(y_BC == 0, 0.0)
        if asked[0]:
            kernels.add_hidden_gradient(total_TD, grad_BC, place_BC, start_P, weight_CD)
        if asked[1]:
            total_VD[chunk] = kernels.weight_gradient(grad_BC, place_BC, start_P, hidden_TD)
    return total_TD, total_VD


@head_backward.register_fake
def _(grad_BV, y_BV, place_BV, start_P, hidden_TD, weight_VD, level_D, scale, asked):  # type: ignore[no-untyped-def]
    return _gradients(hidden_TD, weight_VD, asked)


def _gradients(hidden_TD: Tensor, weight_VD: Tensor, asked: list[bool]) -> tuple[Tensor, Tensor]:
    hidden, weight = (
        tensor.new_zeros(tensor.shape if wanted else 0, dtype=torch.float32)
        for tensor, wanted in zip((hidden_TD, weight_VD), asked, strict=True)
    )
    return hidden, weight


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    hidden_TD, start_P, weight_VD, ctx.scale, _, level_D, _ = inputs
    y_BV, place_BV = output
    ctx.mark_non_differentiable(place_BV)
    ctx.save_for_backward(y_BV, place_BV, start_P, hidden_TD, weight_VD, level_D)


def _differentiate(ctx: Any, grad_BV: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    y_BV, place_BV, start_P, hidden_TD, weight_VD, level_D = ctx.saved_tensors
    asked = [ctx.needs_input_grad[0], ctx.needs_input_grad[2]]
    gradients = head_backward(
        grad_BV, y_BV, place_BV, start_P, hidden_TD, weight_VD, level_D, ctx.scale, asked
    )
    hidden, weight = (
        gradient.to(tensor.dtype) if wanted else None
        for gradient, tensor, wanted in zip(gradients, (hidden_TD, weight_VD), asked, strict=True)
    )
    return hidden, None, weight, None, None, None, None


head.register_autograd(_differentiate, setup_context=_remember)
