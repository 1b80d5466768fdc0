"""The sparse head's Triton kernels are compiled for GPUs that this machine need not have.

Triton's interpreter runs what no compiler would accept, and knows no limit of memory.
"""

from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")

from triton import language  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from lion_sweep.models import sparse_head_triton as kernels  # noqa: E402

# Bytes of shared memory that a program may take, by compute capability: A100, RTX 4090, H100.
SHARED = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}
TYPES = {
    "text_T": "*i32",
    "start_P": "*i64",
    "packed_BC": "*i64",
    "packed_N": "*i64",
    "largest_N": "*fp32",
    "place_N": "*i16",
    "total_TD": "*fp32",
    "total_CD": "*fp32",
    "grad_BC": "*fp32",
    "place_BC": "*i16",
    "flat_E": "*i64",
    "first_T": "*i64",
}  # of others, "i32"
FACTORS = ("hidden_TD", "weight_CD")
# Multiples of 16, as pointers and the sizes of Llama's decoders are.
EVEN = {"entries", "width", *TYPES, *FACTORS}


def compiled(kernel: Any, capability: int, tile: dict[str, int], factor: str = "bf16") -> Any:
    """The kernel for a GPU, with states and weights of a type."""
    options = {name: tile[name] for name in ("num_warps", "num_stages") if name in tile}
    constants = {name: size for name, size in tile.items() if name not in options}
    if "FACTOR" in kernel.arg_names:
        constants["FACTOR"] = getattr(language, {"bf16": "bfloat16", "fp32": "float32"}[factor])
    types = TYPES | dict.fromkeys(FACTORS, f"*{factor}")
    source = ASTSource(
        fn=kernel,
        signature={
            name: "constexpr" if name in constants else types.get(name, "i32")
            for name in kernel.arg_names
        },
        constexprs={(kernel.arg_names.index(name),): value for name, value in constants.items()},
        attrs={
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(kernel.arg_names)
            if name in EVEN
        },
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("tuned", ["_tuned_maxima", "_tuned_product"])
def test_products_fit_the_gpu(tuned: str, capability: int) -> None:
    """One tile at least; on Hopper, for which they are meant, all, by instructions of its own."""
    tuner, fitting = getattr(kernels, tuned), []
    for tile in tuner.configs:
        options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
        kernel = compiled(tuner.fn, capability, tile.kwargs | options)
        fitting.append(kernel.metadata.shared <= SHARED[capability])
        if capability == 90:
            assert "wgmma.mma_async" in kernel.asm["ptx"]
    assert all(fitting) if capability == 90 else any(fitting)


@pytest.mark.parametrize("capability", SHARED)
def test_kernels_without_choice_fit_the_gpu(capability: int) -> None:
    cases = [
        (kernels._maxima, kernels.SMALL, "fp32"),
        (kernels._add_product, kernels.SMALL, "fp32"),
        (kernels._unpack, {"BLOCK_N": 1024}, "bf16"),
        (kernels._add_rows, {"BLOCK_E": 16, "BLOCK_D": 256}, "bf16"),
        (kernels._weight_gradient, {"BLOCK_C": 16, "BLOCK_D": 256}, "bf16"),
    ]
    for kernel, tile, factor in cases:
        assert compiled(kernel, capability, tile, factor).metadata.shared <= SHARED[capability]
