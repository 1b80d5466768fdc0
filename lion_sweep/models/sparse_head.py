"""Head and max-pooling of the sparse encoder, with a backward pass through the argmax alone.

Shapes: B texts, L tokens, D hidden dimensions, V vocabulary entries.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Active entries handled at once in the backward pass; bounds its memory at this many rows of D.
BACKWARD_ROWS = 1 << 17


class _MaxLogits(torch.autograd.Function):
    """max over real tokens of <h, w>, saving one position per entry instead of [B, L, V]."""

    @staticmethod
    def forward(ctx: Any, hidden_BLD: Tensor, weight_VD: Tensor, mask_BL: Tensor) -> Tensor:
        logits_BLV = F.linear(hidden_BLD, weight_VD)
        logits_BLV.masked_fill_(mask_BL[:, :, None] == 0, float("-inf"))
        largest_BV, position_BV = logits_BLV.max(dim=1)
        ctx.save_for_backward(hidden_BLD, weight_VD, position_BV)
        return largest_BV

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BV: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden_BLD, weight_VD, position_BV = ctx.saved_tensors
        hidden_TD = hidden_BLD.flatten(0, 1)
        grad_TD = torch.zeros_like(hidden_TD) if ctx.needs_input_grad[0] else None
        grad_VD = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        text, entry = grad_BV.nonzero(as_tuple=True)
        for part in torch.arange(len(text), device=grad_BV.device).split(BACKWARD_ROWS):
            b, v = text[part], entry[part]
            scale = grad_BV[b, v].to(hidden_TD.dtype)[:, None]
            token = b * hidden_BLD.shape[1] + position_BV[b, v]
            if grad_TD is not None:
                grad_TD.index_add_(0, token, scale * weight_VD[v])
            if grad_VD is not None:
                grad_VD.index_add_(0, v, scale * hidden_TD[token])
        return (None if grad_TD is None else grad_TD.view_as(hidden_BLD)), grad_VD, None


def max_logits(hidden_BLD: Tensor, weight_VD: Tensor, mask_BL: Tensor) -> Tensor:
    """Largest logit of every vocabulary entry over a text's real tokens, [B, V].

    Equal to the plain `(hidden @ weight.T).masked_fill(~mask, -inf).amax(1)` in value; where tokens
    tie, the gradient goes to the one that `Tensor.max` names, instead of being split.
    """
    weight_VD = weight_VD.to(hidden_BLD.dtype)
    largest_BV: Tensor = _MaxLogits.apply(hidden_BLD, weight_VD, mask_BL)
    return largest_BV
