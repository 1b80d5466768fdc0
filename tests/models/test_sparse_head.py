"""The argmax head against plain autograd through the masked maximum.

Shapes: B texts, L tokens, D hidden dimensions, V vocabulary entries.
"""

import pytest
import torch
from torch import Tensor

from lion_sweep.models import sparse_head
from lion_sweep.models.sparse_head import max_logits

MASK = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 0]])


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(hidden, weight, gradient of the result), without ties."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    grad_BV = draw(3, 11)
    grad_BV[:, ::3] = 0  # entries that relu cut off send no gradient
    return draw(3, 4, 5).requires_grad_(), draw(11, 5).requires_grad_(), grad_BV


def plain(hidden_BLD: Tensor, weight_VD: Tensor, mask_BL: Tensor) -> Tensor:
    logits_BLV = hidden_BLD @ weight_VD.T
    return logits_BLV.masked_fill(mask_BL[:, :, None] == 0, float("-inf")).amax(dim=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rows", [1, 4, 1 << 17])
def test_equals_the_masked_maximum(monkeypatch: pytest.MonkeyPatch, seed: int, rows: int) -> None:
    monkeypatch.setattr(sparse_head, "BACKWARD_ROWS", rows)
    hidden_BLD, weight_VD, grad_BV = inputs(seed)
    expected = plain(hidden_BLD, weight_VD, MASK)
    found = max_logits(hidden_BLD, weight_VD, MASK)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    expected_grads = torch.autograd.grad(expected, (hidden_BLD, weight_VD), grad_BV)
    found_grads = torch.autograd.grad(found, (hidden_BLD, weight_VD), grad_BV)
    for one, other in zip(found_grads, expected_grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    assert (found_grads[0][MASK == 0] == 0).all()


def test_a_tie_sends_the_gradient_to_one_token() -> None:
    state = torch.tensor([1.0, 2.0], dtype=torch.float64)
    hidden_BLD = torch.stack([state, state, -state])[None].requires_grad_()
    weight_VD = torch.tensor([[0.5, 1.0]], dtype=torch.float64, requires_grad=True)
    max_logits(hidden_BLD, weight_VD, torch.ones(1, 3)).sum().backward()
    touched = hidden_BLD.grad[0].abs().sum(dim=1) > 0
    assert touched.sum() == 1
    torch.testing.assert_close(hidden_BLD.grad[0][touched], weight_VD.detach())
    torch.testing.assert_close(weight_VD.grad[0], state)


def test_a_frozen_weight_gets_no_gradient() -> None:
    hidden_BLD, weight_VD, grad_BV = inputs()
    frozen = weight_VD.detach()
    max_logits(hidden_BLD, frozen, MASK).backward(grad_BV)
    assert frozen.grad is None
    (expected,) = torch.autograd.grad(plain(hidden_BLD, frozen, MASK), hidden_BLD, grad_BV)
    torch.testing.assert_close(hidden_BLD.grad, expected, atol=1e-12, rtol=0)


def test_backward_returns_none_for_what_needs_no_gradient() -> None:
    class Context:
        needs_input_grad = (True, False, False)
        saved_tensors = (torch.randn(1, 2, 3), torch.randn(4, 3), torch.zeros(1, 4).long())

    hidden, weight, mask = sparse_head._MaxLogits.backward(Context(), torch.ones(1, 4))
    assert hidden is not None
    assert weight is None
    assert mask is None


def test_fixed_states_leave_the_weight_its_gradient() -> None:
    hidden_BLD, weight_VD, grad_BV = inputs()
    fixed = hidden_BLD.detach()
    max_logits(fixed, weight_VD, MASK).backward(grad_BV)
    (expected,) = torch.autograd.grad(plain(fixed, weight_VD, MASK), weight_VD, grad_BV)
    torch.testing.assert_close(weight_VD.grad, expected, atol=1e-12, rtol=0)


def test_the_weight_follows_the_number_format_of_the_states() -> None:
    hidden_BLD, weight_VD, grad_BV = inputs()
    half = hidden_BLD.detach().bfloat16()
    master = weight_VD.detach().float().requires_grad_()
    found = max_logits(half, master, MASK)
    assert found.dtype == torch.bfloat16
    found.backward(grad_BV.bfloat16())
    assert master.grad.dtype == torch.float32
