"""The sparse head's Triton kernels against float64; test_sparse_head_triton.py runs this file.

States, weights and gradients are small whole numbers, which bf16 holds and fp32 sums exactly, so
that results are compared bit by bit and ties are common. On a machine without CUDA the kernels run
in Triton's interpreter, which `TRITON_INTERPRET=1` asks for before Triton is imported.

Shapes: see lion_sweep/models/sparse_head.py.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from models.test_sparse_head import SCALE, THRESHOLD, check, inputs
from torch import Tensor

from lion_sweep.models import sparse_head, sparse_head_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTHS = {
    "short": [4, 1, 9, 2],
    "over borders of tiles": [60, 1, 80, 3, 150],
    "empty": [0, 60, 0, 0, 1, 80, 0],
    "random": np.random.default_rng(0).integers(1, 40, size=9).tolist(),
    "no tokens": [0, 0],
    "no texts": [],
}
SIZES = [
    *(pytest.param(lengths, 40, 130, id=name) for name, lengths in LENGTHS.items()),
    *(pytest.param([3, 1, 17], width, 70, id=str(width)) for width in (64, 2048, 3072, 4096)),
]
types = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
sizes = pytest.mark.parametrize(("lengths", "width", "entries"), SIZES)


@pytest.fixture(autouse=True)
def triton_with_poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """These kernels on every device; memory that nobody wrote to is NaN, or the largest integer."""
    monkeypatch.setattr(sparse_head, "kernels_of", lambda device: sparse_head_triton)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def whole(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=generator).to(DEVICE, dtype)


def starts(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths], device=DEVICE).cumsum(dim=0)


def states_and_weight(
    lengths: list[int], width: int, entries: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    hidden_TD = whole(sum(lengths), width, seed=0, dtype=dtype)
    return hidden_TD, starts(lengths), whole(entries, width, seed=1, dtype=dtype)


def gradients(lengths: list[int], entries: int, share: float = 0.6) -> tuple[Tensor, Tensor]:
    """(gradients, 0 in texts without tokens; positions)."""
    generator = torch.Generator().manual_seed(2)
    shape, length_B = (len(lengths), entries), torch.tensor(lengths)[:, None]
    place_BC = torch.rand(shape, generator=generator) * length_B
    kept_BC = (torch.rand(shape, generator=generator) < share) & (length_B > 0)
    grad_BC = whole(*shape, seed=3).abs() + 1
    return grad_BC * kept_BC.to(DEVICE), place_BC.to(DEVICE, torch.int16)


def expected_maxima(hidden_TD: Tensor, start_P: Tensor, weight_CD: Tensor) -> tuple[Tensor, Tensor]:
    logits_TC = hidden_TD.double() @ weight_CD.double().T
    largest_BC = logits_TC.new_full((len(start_P) - 1, len(weight_CD)), -torch.inf)
    place_BC = torch.zeros_like(largest_BC, dtype=torch.int16)
    for text, (start, end) in enumerate(itertools.pairwise(start_P.tolist())):
        if end > start:
            largest_BC[text] = logits_TC[start:end].amax(dim=0)
            attains = (logits_TC[start:end] == largest_BC[text]).int()
            place_BC[text] = attains.argmax(dim=0).short()  # the first of them
    return largest_BC.float(), place_BC


def expected_gradients(
    hidden_TD: Tensor, start_P: Tensor, weight_CD: Tensor, grad_BC: Tensor, place_BC: Tensor
) -> tuple[Tensor, Tensor]:
    """(of the states, of the weight)."""
    hidden, weight = (
        torch.zeros_like(side, dtype=torch.float64) for side in (hidden_TD, weight_CD)
    )
    for text, entry in grad_BC.nonzero().tolist():
        token = start_P[text] + place_BC[text, entry]
        hidden[token] += grad_BC[text, entry] * weight_CD[entry].double()
        weight[entry] += grad_BC[text, entry] * hidden_TD[token].double()
    return hidden.float(), weight.float()


@types
@sizes
def test_maxima(lengths: list[int], width: int, entries: int, dtype: torch.dtype) -> None:
    arguments = states_and_weight(lengths, width, entries, dtype)
    found = sparse_head_triton.maxima(*arguments)
    for result, expected in zip(found, expected_maxima(*arguments), strict=True):
        assert result.dtype == expected.dtype
        assert torch.equal(result, expected)


def test_maxima_below_zero() -> None:
    hidden_TD, start_P, weight_CD = states_and_weight([5, 70], 40, 130, torch.float32)
    arguments = hidden_TD.abs() + 1, start_P, -weight_CD.abs() - 1
    largest_BC, place_BC = sparse_head_triton.maxima(*arguments)
    assert (largest_BC < 0).all()
    assert torch.equal(place_BC, expected_maxima(*arguments)[1])


def test_equal_tokens_over_several_tiles() -> None:
    hidden_TD = whole(1, 40, seed=0).expand(400, 40).contiguous()
    start_P, weight_CD = starts([300, 100]), whole(70, 40, seed=1)
    assert not sparse_head_triton.maxima(hidden_TD, start_P, weight_CD)[1].any()


def test_maxima_that_are_infinite() -> None:
    infinity = torch.inf
    hidden_TD = torch.tensor([[-infinity], [-infinity], [1.0], [infinity], [infinity], [2.0]])
    arguments = hidden_TD.to(DEVICE), starts([2, 4]), torch.ones(1, 1, device=DEVICE)
    largest_BC, place_BC = sparse_head_triton.maxima(*arguments)
    assert largest_BC.tolist() == [[-infinity], [infinity]]
    assert place_BC.tolist() == [[0], [1]]


@pytest.mark.parametrize("token", [0, 70, 199])
@pytest.mark.parametrize("nan", [torch.nan, -torch.nan])
def test_what_is_not_a_number_is_above_all(token: int, nan: float) -> None:
    hidden_TD, start_P, weight_CD = states_and_weight([30, 200, 40], 40, 70, torch.float32)
    expected_BC, _ = expected_maxima(hidden_TD, start_P, weight_CD)
    hidden_TD[30 + token, 0] = nan
    largest_BC, place_BC = sparse_head_triton.maxima(hidden_TD, start_P, weight_CD)
    assert largest_BC[1].isnan().all()
    assert (place_BC[1] == token).all()
    assert torch.equal(largest_BC[[0, 2]], expected_BC[[0, 2]])


@types
@sizes
def test_gradients(lengths: list[int], width: int, entries: int, dtype: torch.dtype) -> None:
    """By both ways for the states, on top of what is there."""
    hidden_TD, start_P, weight_CD = states_and_weight(lengths, width, entries, dtype)
    grad_BC, place_BC = gradients(lengths, entries)
    arguments = grad_BC, place_BC, start_P
    hidden, weight = expected_gradients(hidden_TD, start_P, weight_CD, grad_BC, place_BC)
    by_product, by_rows = (torch.ones_like(hidden) for _ in range(2))
    sparse_head_triton.add_by_product(by_product, *arguments, weight_CD)
    flat_E = grad_BC.flatten().nonzero()[:, 0]
    sparse_head_triton.add_by_rows(by_rows, *arguments, weight_CD, flat_E)
    assert torch.equal(by_product, hidden + 1)
    assert torch.equal(by_rows, hidden + 1)
    assert torch.equal(sparse_head_triton.weight_gradient(*arguments, hidden_TD), weight)


@pytest.mark.parametrize(("share", "way"), [(0.0, "rows"), (0.3, "rows"), (0.8, "product")])
def test_the_way_depends_on_how_many_gradients_there_are(
    monkeypatch: pytest.MonkeyPatch, share: float, way: str
) -> None:
    hidden_TD, start_P, weight_CD = states_and_weight([5, 70], 40, 130, torch.float32)
    grad_BC, place_BC = gradients([5, 70], 130, share)
    other = {"rows": "add_by_product", "product": "add_by_rows"}[way]
    monkeypatch.delattr(sparse_head_triton, other)
    total_TD = torch.zeros_like(hidden_TD)
    sparse_head_triton.add_hidden_gradient(total_TD, grad_BC, place_BC, start_P, weight_CD)
    expected = expected_gradients(hidden_TD, start_P, weight_CD, grad_BC, place_BC)[0]
    assert torch.equal(total_TD, expected)


def test_tuning_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it runs every kernel several times on the same memory."""
    tried = []

    def time(run: Callable[[], object], quantiles: object) -> list[float]:
        tried.append(run)
        run()
        return [1 / len(tried)] * 3  # the last one wins

    monkeypatch.setattr(sparse_head_triton, "_is_tuned", lambda tensor: True)
    tuned = sparse_head_triton._tuned_maxima, sparse_head_triton._tuned_product
    for tuner in tuned:
        monkeypatch.setattr(tuner, "_do_bench", time)
        monkeypatch.setattr(tuner, "cache", {})
    hidden_TD, start_P, weight_CD = states_and_weight([60, 0, 80], 40, 300, torch.bfloat16)
    found = sparse_head_triton.maxima(hidden_TD, start_P, weight_CD)
    for result, expected in zip(found, expected_maxima(hidden_TD, start_P, weight_CD), strict=True):
        assert torch.equal(result, expected)
    grad_BC, place_BC = gradients([60, 0, 80], 300)
    total_TD = torch.zeros_like(hidden_TD, dtype=torch.float32)
    sparse_head_triton.add_by_product(total_TD, grad_BC, place_BC, start_P, weight_CD)
    expected = expected_gradients(hidden_TD, start_P, weight_CD, grad_BC, place_BC)[0]
    assert torch.equal(total_TD, expected)
    assert len(tried) == sum(len(tuner.configs) for tuner in tuned)


def test_positions_that_are_a_part_of_wider_rows() -> None:
    """As head_backward hands them over."""
    hidden_TD, start_P, weight_CD = states_and_weight([5, 70], 40, 130, torch.float32)
    grad_BC, wide_BV = gradients([5, 70], 130)[0], gradients([5, 70], 230)[1]
    part_BC = wide_BV[:, 50:180]
    for place_BC in (part_BC, part_BC.contiguous()):
        total_TD = torch.zeros_like(hidden_TD)
        sparse_head_triton.add_hidden_gradient(total_TD, grad_BC, place_BC, start_P, weight_CD)
        found = sparse_head_triton.weight_gradient(grad_BC, place_BC, start_P, hidden_TD)
        expected = expected_gradients(hidden_TD, start_P, weight_CD, grad_BC, part_BC)
        assert torch.equal(total_TD, expected[0])
        assert torch.equal(found, expected[1])


def on_device(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    moved = (tensor.detach().to(DEVICE) for tensor in tensors)
    return [new.requires_grad_(old.requires_grad) for new, old in zip(moved, tensors, strict=True)]


@pytest.mark.parametrize("width", [64, 2048, 3072, 4096])
def test_the_head_and_its_gradients(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """On any numbers, in chunks of which the last is not whole."""
    monkeypatch.setattr(sparse_head_triton, "CHUNK", 100)
    check(*on_device(inputs([3, 1, 17], width, entries=130)))


def test_half_precision() -> None:
    hidden_BLD, weight_VD, mask_BL, grad_BV = on_device(inputs([4, 0, 90], 64, 130))
    half, half_weight = (side.detach().bfloat16() for side in (hidden_BLD, weight_VD))
    results = []
    for sides in ((half, half_weight), (half.float(), half_weight.float())):
        leaves = [side.requires_grad_() for side in sides]
        y_BV = sparse_head.activations(*leaves, mask_BL, SCALE, THRESHOLD)
        results.append([y_BV, *torch.autograd.grad(y_BV, leaves, grad_BV)])
    (y_BV, *found), (exact_BV, *exact) = results
    torch.testing.assert_close(y_BV, exact_BV, atol=1e-5, rtol=1e-5)
    for rounded, expected in zip(found, exact, strict=True):
        assert rounded.dtype == torch.bfloat16
        error = (rounded.float() - expected).norm() / expected.norm()
        assert error < 2**-8


def test_two_runs_give_the_same_bits() -> None:
    arguments = on_device(inputs([30, 1, 100], 300, 500))

    def run() -> list[Tensor]:
        y_BV = sparse_head.activations(*arguments[:3], SCALE, THRESHOLD)
        return [y_BV, *torch.autograd.grad(y_BV, arguments[:2], arguments[3])]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first.nan_to_num(), second.nan_to_num())
