"""The sparse head against plain autograd through masked logits, in float64.

Shapes: B texts, L tokens, D hidden dimensions, V vocabulary entries.
"""

import itertools
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from lion_sweep.errors import UserError
from lion_sweep.models import sparse_head, sparse_head_cpu

SCALE, THRESHOLD = 0.7, 0.3


def inputs(
    lengths: list[int], width: int, entries: int, seed: int = 0, *, left: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(hidden, weight, mask, gradient of the result); poisoned where padding is."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    longest = max(lengths, default=1)
    place_L = torch.arange(longest)
    mask_BL = place_L[None] < torch.tensor(lengths, dtype=torch.int64)[:, None]
    if left:
        mask_BL = mask_BL.flip(1)
    hidden_BLD = draw(len(lengths), longest, width)
    hidden_BLD[~mask_BL] = torch.nan
    grad_BV = draw(len(lengths), entries)
    grad_BV[:, ::3] = 0
    weight_VD = draw(entries, width) / width**0.5
    return hidden_BLD.requires_grad_(), weight_VD.requires_grad_(), mask_BL.long(), grad_BV


def plain(
    hidden_BLD: Tensor,
    weight_VD: Tensor,
    mask_BL: Tensor,
    level_D: Tensor | None = None,
    centre_V: Tensor | None = None,
) -> Tensor:
    logits_BLV = hidden_BLD.double() @ weight_VD.double().T
    if level_D is not None:
        logits_BLV = logits_BLV - (hidden_BLD.double() @ level_D.double())[:, :, None]
    largest_BV = logits_BLV.masked_fill(mask_BL[:, :, None] == 0, float("-inf")).amax(dim=1)
    counted_BV = largest_BV - (0.0 if centre_V is None else centre_V)
    return torch.log1p(torch.relu(SCALE * counted_BV - THRESHOLD))


def check(
    hidden_BLD: Tensor,
    weight_VD: Tensor,
    mask_BL: Tensor,
    grad_BV: Tensor,
    level_D: Tensor | None = None,
    centre_V: Tensor | None = None,
) -> None:
    """Value and both gradients equal those of `plain`, and the rows are the values."""
    how = SCALE, THRESHOLD
    found = sparse_head.activations(hidden_BLD, weight_VD, mask_BL, *how, level_D, centre_V)
    rows = sparse_head.rows(
        hidden_BLD.detach(), weight_VD.detach(), mask_BL, *how, level_D=level_D, centre_V=centre_V
    )
    assert np.array_equal(rows.toarray(), found.detach().numpy())
    assert found.dtype == torch.float32
    clean_BLD = hidden_BLD.detach().masked_fill(mask_BL[:, :, None] == 0, 0.0).requires_grad_()
    expected = plain(clean_BLD, weight_VD, mask_BL, level_D, centre_V)
    torch.testing.assert_close(found, expected.float(), atol=2e-6, rtol=1e-5)
    found_hidden, found_weight = torch.autograd.grad(found, (hidden_BLD, weight_VD), grad_BV)
    hidden, weight = torch.autograd.grad(expected, (clean_BLD, weight_VD), grad_BV.double())
    torch.testing.assert_close(found_hidden, hidden, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found_weight, weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("chunk", [1, 7, 2048])
def test_value_and_gradients(monkeypatch: pytest.MonkeyPatch, chunk: int, left: bool) -> None:
    monkeypatch.setattr(sparse_head_cpu, "CHUNK", chunk)
    check(*inputs([4, 1, 9, 2], width=5, entries=23, left=left))


@pytest.mark.parametrize("chunk", [7, 2048])
def test_value_and_gradients_about_a_centre(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(sparse_head_cpu, "CHUNK", chunk)
    given = inputs([4, 1, 9, 2], width=5, entries=23)
    generator = torch.Generator().manual_seed(1)
    centre = torch.randn(5, generator=generator), torch.randn(23, generator=generator)
    check(*given, *centre)


@pytest.mark.parametrize("width", [64, 2048, 3072, 4096])
def test_value_and_gradients_at_real_widths(width: int) -> None:
    check(*inputs([3, 1, 17], width, entries=301))


@pytest.mark.parametrize("seed", range(5))
def test_value_and_gradients_of_random_lengths(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 30, size=6).tolist()
    check(*inputs(lengths, width=8, entries=2100, seed=seed))  # no whole number of chunks


def test_a_tie_sends_the_gradient_to_the_first_token() -> None:
    state = torch.tensor([1.0, 2.0])
    hidden_BLD = torch.stack([-state, state, state, state])[None].requires_grad_()
    weight_VD = torch.tensor([[0.5, 1.0]], requires_grad=True)
    y_BV = sparse_head.activations(hidden_BLD, weight_VD, torch.ones(1, 4), 1.0, 0.0)
    y_BV.sum().backward()
    slope = 1 / (1 + 2.5)
    expected = torch.zeros(4, 2)
    expected[1] = slope * weight_VD.detach()[0]
    torch.testing.assert_close(hidden_BLD.grad[0], expected)
    torch.testing.assert_close(weight_VD.grad[0], slope * state)


def test_entries_that_no_token_activates_have_neither_value_nor_gradient() -> None:
    hidden_BLD = torch.ones(2, 3, 4, requires_grad=True)
    weight_VD = -torch.ones(5, 4, requires_grad=True)
    y_BV = sparse_head.activations(hidden_BLD, weight_VD, torch.ones(2, 3), SCALE, 0.0)
    grads = torch.autograd.grad(y_BV, (hidden_BLD, weight_VD), torch.ones(2, 5))
    assert not any(tensor.any() for tensor in (y_BV, *grads))


def test_a_text_without_tokens_is_nothing_and_no_texts_are_no_rows() -> None:
    hidden_BLD, weight_VD, mask_BL, grad_BV = inputs([3, 0, 2], 4, 6)
    y_BV = sparse_head.activations(hidden_BLD, weight_VD, mask_BL, SCALE, THRESHOLD)
    assert not y_BV[1].any()
    assert y_BV[0].any()
    grads = torch.autograd.grad(y_BV, (hidden_BLD, weight_VD), grad_BV)
    assert all(tensor.isfinite().all() for tensor in grads)
    nobody = inputs([], 4, 6)
    y_BV = sparse_head.activations(*nobody[:3], SCALE, THRESHOLD)
    assert y_BV.shape == (0, 6)
    hidden, weight = torch.autograd.grad(y_BV, nobody[:2], nobody[3])
    assert hidden.shape == (0, 1, 4)
    assert not weight.any()


@pytest.mark.parametrize("token", [0, 1, 2])
def test_what_is_not_a_number_stays_so(token: int) -> None:
    hidden_BLD, weight_VD, mask_BL, _ = inputs([3, 3], 4, 6)
    with torch.no_grad():
        hidden_BLD[0, token, 0] = torch.nan
    y_BV = sparse_head.activations(hidden_BLD, weight_VD, mask_BL, SCALE, THRESHOLD)
    assert y_BV[0].isnan().all()
    assert y_BV[1].isfinite().all()


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_what_is_frozen_gets_no_gradient(frozen: str) -> None:
    hidden_BLD, weight_VD, mask_BL, grad_BV = inputs([4, 2], 5, 9)
    sides = {"hidden": hidden_BLD, "weight": weight_VD}
    sides[frozen] = sides[frozen].detach()
    y_BV = sparse_head.activations(*sides.values(), mask_BL, SCALE, THRESHOLD)
    (other,) = (side for name, side in sides.items() if name != frozen)
    (found,) = torch.autograd.grad(y_BV, other, grad_BV, retain_graph=True)
    whole = sparse_head.activations(hidden_BLD, weight_VD, mask_BL, SCALE, THRESHOLD)
    moving = hidden_BLD if frozen == "weight" else weight_VD
    (expected,) = torch.autograd.grad(whole, moving, grad_BV)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_states_of_another_type_than_the_weight() -> None:
    """As under LoRA (both bf16) and autocast (states and weight are cast)."""
    hidden_BLD, weight_VD, mask_BL, grad_BV = inputs([4, 2, 3], 16, 50)
    half = hidden_BLD.detach().bfloat16().requires_grad_()
    exact = sparse_head.activations(half.float(), weight_VD, mask_BL, SCALE, THRESHOLD)
    direct = sparse_head.activations(half, weight_VD, mask_BL, SCALE, THRESHOLD)
    with torch.autocast("cpu", torch.bfloat16):
        cast = sparse_head.activations(hidden_BLD, weight_VD, mask_BL, SCALE, THRESHOLD)
    torch.testing.assert_close(direct, exact, atol=0.05, rtol=0)
    torch.testing.assert_close(cast, direct, atol=0, rtol=0)
    for y_BV, states in ((direct, half), (cast, hidden_BLD)):
        hidden, weight = torch.autograd.grad(y_BV, (states, weight_VD), grad_BV)
        assert (hidden.dtype, weight.dtype) == (states.dtype, torch.float32)


@pytest.mark.parametrize("largest", [None, 1, 5, 1000])
def test_rows_are_the_same_vectors(largest: int | None) -> None:
    hidden_BLD, weight_VD, mask_BL, _ = inputs([4, 0, 9, 2], 5, 3000)
    with torch.no_grad():
        weight_VD[100:200] = weight_VD[:100]  # equal weights
        arguments = hidden_BLD, weight_VD, mask_BL, SCALE, THRESHOLD
        y_BV = sparse_head.activations(*arguments).numpy()
        found = sparse_head.rows(*arguments, largest)
    expected = np.zeros_like(y_BV)
    for text, entry in itertools.product(range(4), range(3000)):
        above = (y_BV[text] > y_BV[text, entry]).sum()
        before = (y_BV[text, :entry] == y_BV[text, entry]).sum()
        if largest is None or above + before < largest:
            expected[text, entry] = y_BV[text, entry]
    np.testing.assert_array_equal(found.toarray(), expected)
    assert found.dtype == np.float32
    assert found.has_canonical_format
    assert (found.data > 0).all()


def test_texts_longer_than_positions_count_are_refused() -> None:
    mask = torch.ones(1, sparse_head.LONGEST + 1)
    with pytest.raises(ValueError, match="32,768"):
        sparse_head.activations(torch.zeros(*mask.shape, 1), torch.ones(1, 1), mask, 1.0, 0.0)


def test_cuda_without_triton_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lion_sweep.models.sparse_head_triton", raising=False)
    monkeypatch.delattr("lion_sweep.models.sparse_head_triton", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(UserError, match="pip install triton"):
        sparse_head.kernels_of(torch.device("cuda"))
