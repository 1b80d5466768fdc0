"""The sparse head on the CPU, against the released formulation and sentence-transformers' pooling.

`python -m benchmarks.sparse_head`. The released formulation is `released.head`, differentiated by
autograd. sentence-transformers' side is its SpladePooling
on the same logits. The share of upstream gradients that are not zero is alpha. Peak memory is that
of a fresh process per side, above what it had before.

Shapes: B texts, L tokens, H hidden dimensions, V vocabulary entries.
"""

import argparse
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numba
import torch
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor

from benchmarks import interleaved, released
from lion_sweep.models.sparse_head import activations

SHAPES = [(8, 64, 64, 128_256), (16, 64, 128, 32_768), (8, 128, 128, 32_768)]
MEMORY_SHAPE = (16, 128, 64, 128_256)
Side = Callable[[Tensor, Tensor, Tensor], Tensor]


def ours(hidden_BLH: Tensor, weight_VH: Tensor, mask_BL: Tensor) -> Tensor:
    """By chunks of the vocabulary, gradient through the argmax."""
    return activations(hidden_BLH, weight_VH, mask_BL, _scale(weight_VH), 0.0)


POOLING = SpladePooling(pooling_strategy="max", activation_function="relu")


def pooled(hidden_BLH: Tensor, weight_VH: Tensor, mask_BL: Tensor) -> Tensor:
    """sentence-transformers: activated logits, then the maximum."""
    logits_BLV = hidden_BLH @ weight_VH.T * _scale(weight_VH)
    features = {"token_embeddings": logits_BLV, "attention_mask": mask_BL}
    result: Tensor = POOLING(features)["sentence_embedding"]
    return result


SIDES: dict[str, Side] = {
    "chunks and argmax": ours,
    "released formulation": released.head,
    "SpladePooling": pooled,
}


def _scale(weight_VH: Tensor) -> float:
    return float(weight_VH.shape[1] ** -0.25)


def inputs(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """(hidden, weight, mask); a quarter of the texts end at half the length."""
    texts, length, width, entries = shape
    torch.manual_seed(0)
    mask_BL = torch.ones(texts, length)
    mask_BL[: texts // 4, length // 2 :] = 0
    hidden_BLH = (torch.randn(texts, length, width) / width**0.5).requires_grad_()
    return hidden_BLH, torch.randn(entries, width), mask_BL


def upstream(texts: int, entries: int, alpha: float) -> Tensor:
    """Gradients of the result, a share of which is not zero."""
    return torch.randn(texts, entries) * (torch.rand(texts, entries) < alpha)


def check(shape: tuple[int, int, int, int]) -> None:
    """All sides agree in value and gradient."""
    hidden_BLH, weight_VH, mask_BL = inputs(shape)
    grad_BV = upstream(shape[0], shape[3], 1.0)
    expected = released.head(hidden_BLH, weight_VH, mask_BL)
    (expected_grad,) = torch.autograd.grad(expected, hidden_BLH, grad_BV)
    for side in SIDES.values():
        found = side(hidden_BLH, weight_VH, mask_BL)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        (grad,) = torch.autograd.grad(found, hidden_BLH, grad_BV)
        # Rounding ties logits once log1p was taken: SpladePooling may pick another token of them.
        differs = ~torch.isclose(grad, expected_grad, atol=1e-3, rtol=1e-3)
        if float(differs.float().mean()) > (0.01 if side is pooled else 0.0):
            raise SystemExit(f"{side.__name__}: another gradient, nothing was timed.")


def timed(
    shape: tuple[int, int, int, int], alpha: float, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """(forward and backward, backward alone) seconds of every side."""
    hidden_BLH, weight_VH, mask_BL = inputs(shape)
    grad_BV = upstream(shape[0], shape[3], alpha)
    made = {name: side(hidden_BLH, weight_VH, mask_BL) for name, side in SIDES.items()}

    def step(name: str) -> object:
        result = SIDES[name](hidden_BLH, weight_VH, mask_BL)
        return torch.autograd.grad(result, hidden_BLH, grad_BV)

    def backward(name: str) -> object:
        return torch.autograd.grad(made[name], hidden_BLH, grad_BV, retain_graph=True)

    both, alone = ({name: partial(run, name) for name in SIDES} for run in (step, backward))
    return interleaved.seconds(both, rounds), interleaved.seconds(alone, rounds)


def _resident(kind: str) -> int:
    """Bytes in memory: VmRSS now, or VmHWM, the most since it was reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"This system does not tell its processes' {kind}.")


def _peak(name: str, told: "multiprocessing.Queue[int]") -> None:
    side = SIDES[name]
    for shape in ((2, 3, 4, 5), MEMORY_SHAPE):  # what is compiled once is not counted
        hidden_BLH, weight_VH, mask_BL = inputs(shape)
        grad_BV = upstream(shape[0], shape[3], 1.0)
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        before = _resident("VmRSS")
        torch.autograd.grad(side(hidden_BLH, weight_VH, mask_BL), hidden_BLH, grad_BV)
    told.put(_resident("VmHWM") - before)


def peaks() -> dict[str, int]:
    """Bytes that every side takes at once on top of its inputs, forward and backward."""
    fresh, found = multiprocessing.get_context("spawn"), {}
    for name in SIDES:
        told: multiprocessing.Queue[int] = fresh.Queue()
        process = fresh.Process(target=_peak, args=(name, told))
        process.start()
        found[name] = told.get()
        process.join()
    return found


def main() -> None:
    """Check that all sides agree, then time them and see what memory they take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    cases = {}
    for shape in SHAPES:
        check(shape)
        name = ", ".join(f"{letter}={size}" for letter, size in zip("BLHV", shape, strict=True))
        for alpha in (1.0, 0.01):
            both, alone = timed(shape, alpha, rounds)
            cases[f"{name}, alpha={alpha:g}, forward and backward"] = both
            cases[f"{name}, alpha={alpha:g}, backward"] = alone
    found = peaks()
    least = found["chunks and argmax"]
    facts: dict[str, object] = {
        "threads": f"torch {torch.get_num_threads()}, numba {numba.get_num_threads()}"
    }
    for name, size in found.items():
        facts[f"peak, MB, {name}"] = f"{size / 1e6:.0f} ({size / least:.0f} times ours)"
    facts["peak at B, L, H, V"] = str(MEMORY_SHAPE)
    first, *_ = cases
    interleaved.report(
        cases.pop(first),
        checked="values to 1e-5, gradients of the states to 1e-3 (SpladePooling: 99 % of them, "
        f"for its ties); shown first: {first}",
        packages=["torch", "numba", "numpy", "sentence-transformers"],
        facts=facts,
        cases=cases,
    )


if __name__ == "__main__":
    main()
