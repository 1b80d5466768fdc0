"""The closed form against what automatic differentiation saves, real optimisers, fake steps."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import spread
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.fake_memory import LiveBytes, fake_cuda, materialise
from benchmarks.study_compute import SHAPES
from benchmarks.training_memory import Setting, fake_peak
from lion_sweep.config import Lora
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.memory import (
    BF16,
    Decoder,
    parameters,
    pooling,
    saved_bytes,
    training_memory,
    weight_bytes,
)
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.multi_vector import MultiVectorEncoder
from lion_sweep.models.sparse import SparseEncoder

MakeModel = Callable[..., LlamaForCausalLM]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ALONE = [["q_proj", "v_proj"], ["k_proj"], ["o_proj"], ["gate_proj"], ["up_proj"], ["down_proj"]]
SUBSETS = [[], TARGETS, *ALONE]
TINY = DecoderShape(32, 48, 3, 4, 2, 8, 97)
# A length at which kernels pad nothing, so that the CPU's and CUDA's save the same.
ROWS, LENGTH, PADDING = 3, 32, 12

subsets = pytest.mark.parametrize("targets", SUBSETS, ids=lambda names: "+".join(names) or "full")
sparse_or_dense = pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
precision = pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])


def adapters(targets: list[str], dropout: float = 0.0) -> Lora | None:
    return Lora(rank=4, alpha=8, dropout=dropout, targets=targets) if targets else None


def build(model: LlamaForCausalLM, lora: Lora | None, *, bf16: bool) -> Backbone:
    backbone = Backbone(model.to(torch.bfloat16 if lora and bf16 else torch.float32))
    if lora:
        backbone = backbone.with_lora(lora)
    return backbone.train()


def texts() -> tuple[Tensor, Tensor]:
    mask = torch.ones(ROWS, LENGTH, dtype=torch.int64)
    mask[0, LENGTH - PADDING :] = 0
    return torch.ones_like(mask), mask


def encode(backbone: Backbone, sparse: bool, bf16: bool) -> Tensor:
    encoder = SparseEncoder(backbone, 0.0) if sparse else DenseEncoder(backbone, "tokens")
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return encoder(*texts())


def expected(lora: Lora | None, *, sparse: bool, bf16: bool, padding: int = PADDING) -> int:
    decoder = Decoder(TINY, lora, bf16)
    saved = decoder.kept(ROWS, LENGTH) + pooling(decoder, ROWS, LENGTH, sparse)
    # The closed form has no text shorter than the longest; the sparse head keeps real tokens only.
    return saved - sparse * padding * (TINY.hidden_size * decoder.value + 8)


@precision
@sparse_or_dense
@subsets
def test_saved_bytes_are_those_of_the_hooks(
    make_model: MakeModel, targets: list[str], sparse: bool, bf16: bool
) -> None:
    lora = adapters(targets)
    model = make_model(num_hidden_layers=TINY.layers)
    backbone = build(model, lora, bf16=bf16)
    weights = {parameter.untyped_storage().data_ptr() for parameter in backbone.parameters()}
    # Tensors are kept, so that no other gets the address of one that is gone.
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        encode(backbone, sparse, bf16)
    found = sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in weights)
    assert found == expected(lora, sparse=sparse, bf16=bf16)


@precision
@pytest.mark.parametrize("targets", [[], TARGETS], ids=["full", "adapters"])
def test_saved_bytes_of_a_vector_per_token(
    make_model: MakeModel, targets: list[str], bf16: bool
) -> None:
    lora = adapters(targets)
    backbone = build(make_model(num_hidden_layers=TINY.layers), lora, bf16=bf16)
    encoder, shape = MultiVectorEncoder(backbone, 5, 0), replace(TINY, projection=5)
    decoder, saved = Decoder(shape, lora, bf16), dict[int, Tensor]()
    weights = {parameter.untyped_storage().data_ptr() for parameter in backbone.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        encoder(*texts())
    found = sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in weights)
    assert found == decoder.kept(ROWS, LENGTH) + pooling(decoder, ROWS, LENGTH, False)
    assert saved_bytes(decoder, tied=False) == sum(4 * p.numel() for p in trained(backbone))
    assert weight_bytes(decoder, tied=False) == sum(p.nbytes for p in backbone.parameters())


def trained(backbone: Backbone) -> list[torch.nn.Parameter]:
    return list(backbone.trainable().values())


@precision
@sparse_or_dense
@subsets
def test_bytes_alive_after_a_forward_pass(
    make_model: MakeModel, targets: list[str], sparse: bool, bf16: bool
) -> None:
    """Real tensors, also those that no hook sees."""
    lora = adapters(targets)
    model = make_model(num_hidden_layers=TINY.layers)
    backbone = build(model, lora, bf16=bf16)
    found = alive(backbone, sparse, bf16)
    assert found == expected(lora, sparse=sparse, bf16=bf16)


@precision
@pytest.mark.parametrize("targets", SUBSETS[1:], ids="+".join)
def test_dropout_keeps_a_byte_per_input_on_cuda(
    make_model: MakeModel, targets: list[str], bf16: bool
) -> None:
    lora = adapters(targets, dropout=0.1)
    with torch.device("meta"):
        model = make_model(num_hidden_layers=TINY.layers)
        backbone = build(model, lora, bf16=bf16)
    with fake_cuda():
        materialise(backbone)
        found = alive(backbone, True, bf16)
    # CUDA's attention also keeps two numbers per layer, the state of its random generator.
    wanted = expected(lora, sparse=True, bf16=bf16, padding=0)
    assert wanted <= found <= wanted + 2 * 8 * TINY.layers


def alive(backbone: Backbone, sparse: bool, bf16: bool) -> int:
    """Bytes that a forward pass leaves, without weights and vectors that it does not save."""
    with LiveBytes() as live:
        for tensor in [*backbone.parameters(), *backbone.buffers()]:
            live.add(tensor)
        start = live.now
        vectors = encode(backbone, sparse, bf16)
        gc.collect()
        return live.now - start - (0 if sparse else vectors.untyped_storage().nbytes())


@pytest.mark.parametrize("tied", [False, True])
@precision
@subsets
def test_weights_and_optimiser_are_those_of_a_real_one(
    make_model: MakeModel, targets: list[str], bf16: bool, tied: bool
) -> None:
    lora = adapters(targets)
    model = make_model(num_hidden_layers=TINY.layers, tie_word_embeddings=tied)
    assert model.num_parameters() == parameters(TINY, tied=tied)
    backbone = build(model, lora, bf16=bf16)
    weights = sum(p.nbytes for p in backbone.parameters())
    trained = list(backbone.trainable().values())
    optimiser = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    state = sum(
        value.nbytes
        for moments in optimiser.state.values()
        for name, value in moments.items()
        if name != "step"  # a number per weight matrix
    )
    state += sum(p.grad.nbytes for p in trained if p.grad is not None)
    found = memory([(64, 32)] * 2, lora=lora, bf16=bf16, tied=tied, cached=True)
    assert (found.weights, found.optimiser) == (weights, state)
    # Without texts to speak of, the update is the worst moment: it takes as much as a gradient.
    update = memory([(1, 1)], lora=None, bf16=False, tied=tied)
    assert update.optimiser == 4 * 4 * parameters(TINY, tied=tied)


def memory(batches: list[tuple[int, int]], **changes: object):  # type: ignore[no-untyped-def]
    settings = {
        "tied": True,
        "sparse": True,
        "lora": adapters(TARGETS, dropout=0.1),
        "bf16": True,
        "cached": False,
    }
    chosen = settings | changes
    decoder = Decoder(TINY, chosen.pop("lora"), chosen.pop("bf16"))  # type: ignore[arg-type]
    return training_memory(decoder, batches, **chosen)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 200)), min_size=1, max_size=4),
    st.integers(1, 9),
    st.sampled_from([adapters(targets) for targets in SUBSETS]),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_more_takes_more(
    batches: list[tuple[int, int]], more: int, lora: Lora | None, how: tuple[bool, bool, bool]
) -> None:
    def total(batches: list[tuple[int, int]]) -> int:
        sparse, cached, bf16 = how
        return memory(batches, lora=lora, sparse=sparse, cached=cached, bf16=bf16).total

    (rows, length), *rest = batches
    assert total([(rows + more, length), *rest]) >= total(batches)
    assert total([(rows, length + more), *rest]) >= total(batches)
    assert total([*batches, (rows, length)]) >= total(batches)


@precision
@sparse_or_dense
@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
@pytest.mark.parametrize("targets", [[], TARGETS], ids=["full", "adapters"])
def test_peak_of_a_step_on_fake_tensors(
    targets: list[str], sparse: bool, bf16: bool, cached: bool
) -> None:
    """Full width and vocabulary, few layers and texts."""
    width = DecoderShape(2048, 8192, 4, 32, 8, 64, 128256)
    lora = adapters(targets, dropout=0.05)
    setting = Setting(width, 4, 9, True, sparse, lora, cached, bf16, micro_batch_tokens=2048)
    assert setting.predicted().total == pytest.approx(fake_peak(setting), rel=0.1)


@pytest.mark.parametrize("tied", [False, True], ids=["apart", "tied"])
@sparse_or_dense
@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
@pytest.mark.parametrize("targets", [[], ["q_proj", "v_proj"]], ids=["full", "adapters"])
def test_peak_where_a_narrow_decoder_has_a_wide_head(
    targets: list[str], sparse: bool, tied: bool, cached: bool
) -> None:
    """What the vocabulary takes is most of it: gradients of embeddings wait for one another."""
    narrow = DecoderShape(64, 96, 1, 4, 2, 16, 128256)
    setting = Setting(narrow, 2, 9, tied, sparse, adapters(targets), cached, micro_batch_tokens=512)
    assert len(setting.batches) > 2
    assert setting.predicted().total == pytest.approx(fake_peak(setting), rel=0.05)


def sharded_peak(rank: int, setting: Setting, path: str) -> None:
    """In a process of its own, which is then one of several ranks for good."""
    Path(path).write_text(str(fake_peak(setting)))


@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
def test_peak_of_a_sharded_step_on_fake_tensors(tmp_path: Path, cached: bool) -> None:
    """What is gathered, to less than a layer; how much sharding saves, to the byte."""
    width, lora = DecoderShape(2048, 8192, 4, 32, 8, 64, 4096), adapters(TARGETS, dropout=0.05)
    setting = Setting(width, 2, 3, True, False, lora, cached, micro_batch_tokens=256, shards=8)
    assert len(setting.batches) > 1
    spread(sharded_peak, 1, setting, str(tmp_path / "peak"))
    layer = BF16 * (width.linear_parameters // width.layers + 2 * width.hidden_size)
    predicted, whole = setting.predicted().total, replace(setting, shards=1).predicted().total
    assert 0 <= predicted - int((tmp_path / "peak").read_text()) < layer
    assert whole - predicted == 4 * layer * 7 // 8 - 3 * layer


def test_peak_of_the_8b_decoder_on_fake_tensors() -> None:
    setting = Setting(SHAPES["8b"], 8, 17, tied=False, sparse=True)
    assert setting.predicted().total == pytest.approx(fake_peak(setting), rel=0.1)
