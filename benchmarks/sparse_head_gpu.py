"""The sparse head on a GPU, against a bare matrix product and the released study's formulation.

`python -m benchmarks.sparse_head_gpu`, which needs CUDA. For every hidden size:

- forward: the head (logits, maxima, activation) against cuBLAS's product of the same tokens and
  weight into a buffer that is reused, and nothing else;
- forward and backward: against the study's formulation (`released.head`), which holds fp32 logits
  of all padded tokens and lets automatic differentiation do the rest. Of the gradients that come
  from above a share is not 0; weights are frozen, as under LoRA, or trained;
- the two ways to the gradient of the states, for the share at which one should follow the other
  (`sparse_head_triton.DENSE`).

States and weights are normal, in bf16; lengths are those of `workload`'s passages. Peaks are of the
allocator, above what was there before. The result is known by forward and backward at H = 2048, 1 %
of the gradients not 0, the weight frozen.

Shapes: see lion_sweep/models/sparse_head.py.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import interleaved, machine, released, workload
from lion_sweep.models import sparse_head

HIDDEN_SIZES = (2048, 3072, 4096)
SHARES = (0.01, 1.0)
SHARES_BETWEEN = (0.05, 0.2, 0.4, 0.6, 0.8)
HEADLINE = "2048 both, share 0.01, weight frozen"
CHECKED = 4096  # entries of the vocabulary whose values and gradients are compared


@dataclass(frozen=True)
class Sizes:
    """Texts, tokens of the longest, entries of the vocabulary."""

    texts: int = 128
    longest: int = workload.PASSAGE_MOST
    entries: int = 128_256

    @property
    def length_B(self) -> np.ndarray:
        """Tokens of every text."""
        random = np.random.default_rng(0)
        return workload.lengths(random, workload.PASSAGE_MEAN, self.longest, self.texts)


FULL = Sizes()

Inputs = tuple[Tensor, Tensor, Tensor]  # hidden_BLD, weight_VD, mask_BL
Head = Callable[[Tensor, Tensor, Tensor], Tensor]


def inputs(width: int, device: torch.device, sizes: Sizes = FULL, seed: int = 0) -> Inputs:
    """States, weight and mask, the same in every run with one seed."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device, dtype=torch.bfloat16)

    length_B = torch.from_numpy(sizes.length_B).to(device)
    mask_BL = torch.arange(sizes.longest, device=device)[None] < length_B[:, None]
    hidden_BLD = normal(sizes.texts, sizes.longest, width)
    return hidden_BLD, normal(sizes.entries, width) / width**0.5, mask_BL.long()


def upstream(share: float, texts: int, entries: int, device: torch.device) -> Tensor:
    """Gradients of the result, of which a share is not 0."""
    generator = torch.Generator(device).manual_seed(1)
    grad_BV = torch.randn(texts, entries, generator=generator, device=device)
    return grad_BV * (torch.rand(grad_BV.shape, generator=generator, device=device) < share)


def ours(hidden_BLD: Tensor, weight_VD: Tensor, mask_BL: Tensor) -> Tensor:
    """The head as the encoder calls it."""
    scale = hidden_BLD.shape[2] ** -0.25
    return sparse_head.activations(hidden_BLD, weight_VD, mask_BL, scale, 0.0)


def step(head: Head, inputs: Inputs, grad_BV: Tensor, trained: bool) -> list[Tensor]:
    """Result and gradients, of the states and, if it is trained, of the weight."""
    hidden_BLD, weight_VD = inputs[0].detach().requires_grad_(), inputs[1].detach()
    leaves = [hidden_BLD, weight_VD.requires_grad_()] if trained else [hidden_BLD]
    y_BV = head(hidden_BLD, weight_VD, inputs[2])
    return [y_BV.detach(), *torch.autograd.grad(y_BV, leaves, grad_BV)]


def check(inputs: Inputs) -> None:
    """Ours has the values and gradients of the study's formulation in fp32, on some entries.

    In bf16 its logits tie far more often than sums in fp32 do, and gradients go elsewhere.
    """
    hidden_BLD, weight_VD, mask_BL = inputs[0], inputs[1][:CHECKED], inputs[2]
    for share in SHARES:
        grad_BV = upstream(share, len(mask_BL), len(weight_VD), hidden_BLD.device)
        found = step(ours, (hidden_BLD, weight_VD, mask_BL), grad_BV, True)
        exact = step(released.head, (hidden_BLD.float(), weight_VD.float(), mask_BL), grad_BV, True)
        for name, one, other in zip(("y", "states", "weight"), found, exact, strict=True):
            error = float((one.float() - other).norm() / other.norm())
            if not error < (1e-4 if name == "y" else 1e-2):
                raise SystemExit(f"{name}: {error:.1e} away from fp32, nothing was timed.")


def compare(name: str, sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Time the sides in turn and, on CUDA, take their peaks, of which the first one's is 1."""
    print(f"\n{name}\n")
    cuda = torch.cuda.is_available()
    wait = torch.cuda.synchronize if cuda else lambda: None
    results = interleaved.compared(interleaved.seconds(sides, rounds, wait))
    if not cuda:
        return results
    peaks = {}
    for side, run in sides.items():
        most, before = machine.peak(run)
        peaks[side] = (most - before) / 1e6
    ours, *_ = peaks.values()
    times = {side: taken / ours for side, taken in peaks.items()}
    for side, taken in peaks.items():
        print(f"peak of {side}: {taken:.1f} MB, {times[side]:.1f} times ours", flush=True)
    return results | {"peak_MB": peaks, "peak_ratio": times}


def forward(inputs: Inputs, rounds: int) -> dict[str, Any]:
    """The head against cuBLAS on its packed tokens."""
    hidden_TD, _ = sparse_head.packed(inputs[0], inputs[2])
    weight_VD = inputs[1]
    buffer_TV = hidden_TD.new_empty(len(hidden_TD), len(weight_VD))
    sides = {
        "head": lambda: ours(*inputs),
        "cuBLAS": lambda: torch.mm(hidden_TD, weight_VD.T, out=buffer_TV),
    }
    return compare(f"H = {hidden_TD.shape[1]}, forward", sides, rounds)


def both(inputs: Inputs, share: float, trained: bool, rounds: int) -> dict[str, Any]:
    """Forward and backward against the study's formulation."""
    grad_BV = upstream(share, len(inputs[0]), len(inputs[1]), inputs[0].device)
    sides = {
        "head": lambda: step(ours, inputs, grad_BV, trained),
        "released": lambda: step(released.head, inputs, grad_BV, trained),
    }
    state = "trained" if trained else "frozen"
    name = f"H = {inputs[0].shape[2]}, forward and backward, share {share}, weight {state}"
    return compare(name, sides, rounds)


def ways(inputs: Inputs, share: float, rounds: int) -> dict[str, Any]:
    """Gradient of the states in one chunk: by rows of the weight, and by a product with it."""
    kernels: Any = sparse_head.kernels_of(inputs[0].device)
    hidden_TD, start_P = sparse_head.packed(inputs[0], inputs[2])
    weight_CD = inputs[1][: kernels.CHUNK]
    grad_BC = upstream(share, len(inputs[0]), len(weight_CD), hidden_TD.device)
    _, place_BC = kernels.maxima(hidden_TD, start_P, weight_CD)
    total_TD = torch.zeros_like(hidden_TD, dtype=torch.float32)
    arguments = total_TD, grad_BC, place_BC, start_P, weight_CD
    sides = {
        "rows": lambda: kernels.add_by_rows(*arguments, grad_BC.flatten().nonzero()[:, 0]),
        "product": lambda: kernels.add_by_product(*arguments),
    }
    name = f"H = {hidden_TD.shape[1]}, gradient of the states in a chunk, share {share}"
    return compare(name, sides, rounds)


def main() -> None:
    """Check that the sides agree, then time them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    gpu, comparisons = machine.gpu(), {}
    device = gpu.device
    for width in HIDDEN_SIZES:
        sizes = inputs(width, device)
        check(sizes)
        comparisons[f"{width} forward"] = forward(sizes, rounds)
        for trained, share in ((trained, share) for trained in (False, True) for share in SHARES):
            name = f"{width} both, share {share}, weight {'trained' if trained else 'frozen'}"
            comparisons[name] = both(sizes, share, trained, rounds)
        for share in SHARES_BETWEEN:
            comparisons[f"{width} ways, share {share}"] = ways(sizes, share, rounds)
    interleaved.write(
        comparisons[HEADLINE] | {"comparisons": comparisons},
        checked="y and gradients of the released formulation in fp32, on 4,096 entries",
        packages=["torch", "triton"],
        facts={
            "rounds": rounds,
            "texts": FULL.texts,
            "tokens": int(FULL.length_B.sum()),
            "longest text": int(FULL.length_B.max()),
            "entries": FULL.entries,
            "CUDA": torch.version.cuda,
        },
        device=str(gpu.name),
    )


if __name__ == "__main__":
    main()
