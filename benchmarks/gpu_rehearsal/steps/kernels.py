"""The sparse head's kernels against float64: the CPU's own tests, then the real sizes.

Whole numbers are compared bit by bit, as bf16 holds them and fp32 sums them exactly, ties included;
normal ones by the norm of the difference. Memory that nobody wrote to is NaN or the largest
integer.

Shapes: see lion_sweep/models/sparse_head.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from benchmarks import sparse_head_gpu
from benchmarks.gpu_rehearsal.bars import WIDTHS
from benchmarks.gpu_rehearsal.target import Case, Figure, Target
from lion_sweep.models import sparse_head, sparse_head_triton

TESTS = Path(__file__).parents[3] / "tests"
FEW = "short or way or half_precision"  # of the tests, where a whole run takes minutes
TINY = sparse_head_gpu.Sizes(texts=3, longest=20, entries=150)
TINY_WIDTHS = {"1b": 32, "3b": 48, "8b": 64}


def cases(target: Target) -> list[Case]:
    """The tests, then one case per real size."""
    sized = [Case(f"kernels {size}", partial(_at_size, target, size), gib=30) for size in WIDTHS]
    return [Case("kernels, the CPU's tests", lambda: _tests(target)), *sized]


@contextmanager
def on_every_device() -> Iterator[None]:
    """These kernels on the CPU too, and memory poisoned."""
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    with patch.object(sparse_head, "kernels_of", lambda device: sparse_head_triton):
        yield
    torch.use_deterministic_algorithms(was)


class _Counter:
    """A plugin of pytest that counts."""

    run = 0
    failed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.run += report.when == "call"
        self.failed += report.failed

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.failed += report.failed


def _tests(target: Target) -> Iterator[Figure]:
    counter, file = _Counter(), TESTS / "models" / "sparse_head_triton_cases.py"
    words = ["--noconftest", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider"]
    words += ["-q", "--rootdir", str(TESTS.parent), "-c", str(TESTS.parent / "pyproject.toml")]
    code = pytest.main([*words, *target.pick([], ["-k", FEW]), str(file)], plugins=[counter])
    yield Figure("tests", counter.run)
    yield Figure("tests that fail", counter.failed)
    if code or not counter.run:
        raise RuntimeError(f"pytest ended with {code!r} after {counter.run} tests: see the log")


def _at_size(target: Target, size: str) -> Iterator[Figure]:
    width, sizes = target.pick((WIDTHS[size], sparse_head_gpu.FULL), (TINY_WIDTHS[size], TINY))
    made = sparse_head_gpu.inputs(width, target.device.device, sizes, target.seed)
    with on_every_device():
        yield Figure("numbers that differ from float64", _differing(made, target.seed))
        yield from _errors(made)


def _differing(made: sparse_head_gpu.Inputs, seed: int) -> int:
    """Numbers that are not float64's, with whole numbers of the inputs' shapes."""
    hidden_TD, start_P = sparse_head.packed(made[0], made[2])
    generator = torch.Generator(hidden_TD.device).manual_seed(seed)

    def whole(like: Tensor) -> Tensor:
        return torch.randint(
            -3, 4, like.shape, generator=generator, device=like.device, dtype=torch.int8
        ).to(like.dtype)

    hidden_TD, weight_VD = whole(hidden_TD), whole(made[1])
    found_TD, expected_TD = (hidden_TD.new_zeros(hidden_TD.shape, dtype=dtype) for dtype in WIDE)
    by_rows_TD, differing = found_TD.clone(), 0
    for weight_CD in weight_VD.split(sparse_head_triton.CHUNK):
        largest_BC, place_BC = sparse_head_triton.maxima(hidden_TD, start_P, weight_CD)
        right_BC, right_place_BC = _maxima(hidden_TD, start_P, weight_CD)
        differing += _unequal(largest_BC, right_BC) + _unequal(place_BC, right_place_BC)
        grad_BC = whole(largest_BC)  # of which a seventh is 0
        tensors = grad_BC, right_place_BC, start_P
        sparse_head_triton.add_by_product(found_TD, *tensors, weight_CD)
        flat_E = grad_BC.flatten().nonzero()[:, 0]
        sparse_head_triton.add_by_rows(by_rows_TD, *tensors, weight_CD, flat_E)
        found_CD = sparse_head_triton.weight_gradient(*tensors, hidden_TD)
        states_TD, right_CD = _gradients(*tensors, hidden_TD, weight_CD)
        expected_TD += states_TD
        differing += _unequal(found_CD, right_CD)
    return differing + sum(_unequal(side, expected_TD) for side in (found_TD, by_rows_TD))


WIDE = torch.float32, torch.float64


def _unequal(one: Tensor, other: Tensor) -> int:
    return int((one != other).sum())


def _errors(made: sparse_head_gpu.Inputs) -> Iterator[Figure]:
    """Of the whole head, by the norm; the larger of those with all and with some gradients."""
    _, weight_VD, mask_BL = made
    worst, differing = {"y": 0.0, "gradient of the states": 0.0, "gradient of the weight": 0.0}, 0
    for share in sparse_head_gpu.SHARES:
        grad_BV = sparse_head_gpu.upstream(share, len(mask_BL), len(weight_VD), mask_BL.device)
        runs = [sparse_head_gpu.step(sparse_head_gpu.ours, made, grad_BV, True) for _ in range(2)]
        differing += sum(_unequal(*pair) for pair in zip(*runs, strict=True))
        y_BV, hidden_grad_BLD, weight_grad_VD = runs[0]
        found = y_BV, hidden_grad_BLD[mask_BL.bool()], weight_grad_VD
        for name, error in zip(worst, _apart(made, grad_BV, found), strict=True):
            worst[name] = max(worst[name], error) if error == error else error
    for name, error in worst.items():
        yield Figure(f"{name}, error", error)
    yield Figure("numbers that differ between two runs", differing)


def _apart(made: sparse_head_gpu.Inputs, grad_BV: Tensor, found: tuple[Tensor, ...]) -> list[float]:
    """Norm of what is found minus float64's, over the latter's, chunk by chunk."""
    hidden_TD, start_P = sparse_head.packed(made[0], made[2])
    scale, first = hidden_TD.shape[1] ** -0.25, 0
    y_BV, states_TD, weight_VD = found
    expected_TD = torch.zeros_like(states_TD, dtype=torch.float64)
    squares = torch.zeros(2, 2, dtype=torch.float64)  # y and weight; difference and whole
    for weight_CD in made[1].split(sparse_head_triton.CHUNK):
        chunk = slice(first, first := first + len(weight_CD))
        largest_BC, place_BC = _maxima(hidden_TD, start_P, weight_CD)
        right_BC = largest_BC.mul(scale).relu().log1p()
        slope_BC = scale * torch.exp(-right_BC) * (right_BC > 0)
        tensors = grad_BV[:, chunk] * slope_BC, place_BC, start_P
        grad_TD, grad_CD = _gradients(*tensors, hidden_TD, weight_CD)
        expected_TD += grad_TD
        sides = (y_BV[:, chunk], right_BC), (weight_VD[chunk], grad_CD)
        for row, (one, right) in enumerate(sides):
            squares[row, 0] += (one.double() - right).square().sum().cpu()
            squares[row, 1] += right.square().sum().cpu()
    y, weight = (squares[:, 0] / squares[:, 1]).sqrt().tolist()
    states = float((states_TD.double() - expected_TD).norm() / expected_TD.norm())
    return [y, states, weight]


def _maxima(hidden_TD: Tensor, start_P: Tensor, weight_CD: Tensor) -> tuple[Tensor, Tensor]:
    """Largest logit of every text, and the first position that has it, [B, C], in float64."""
    logits_TC = hidden_TD.double() @ weight_CD.double().T
    parts = [part.max(dim=0) for part in logits_TC.split(start_P.diff().tolist())]
    largest_BC = torch.stack([part.values for part in parts])
    first_BC = [
        (part_LC == largest_C).int().argmax(dim=0)
        for part_LC, largest_C in zip(
            logits_TC.split(start_P.diff().tolist()), largest_BC, strict=True
        )
    ]
    return largest_BC, torch.stack(first_BC).short()


def _gradients(
    grad_BC: Tensor, place_BC: Tensor, start_P: Tensor, hidden_TD: Tensor, weight_CD: Tensor
) -> tuple[Tensor, Tensor]:
    """A chunk's gradients of the states and of the weight, in float64."""
    spread_TC = hidden_TD.new_zeros(len(hidden_TD), len(weight_CD), dtype=torch.float64)
    spread_TC.scatter_add_(0, start_P[:-1, None] + place_BC, grad_BC.double())
    return spread_TC @ weight_CD.double(), spread_TC.T @ hidden_TD.double()
