"""The ledger against published shapes, a counter of real operations, and its own algebra."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModel,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
)

from benchmarks.study_compute import checkpointed_flops
from lion_sweep.config import Adapt, Lora
from lion_sweep.cost.ledger import DecoderShape, executed_flops, sequence_flops
from lion_sweep.cost.meter import Meter, mntp_spending
from lion_sweep.errors import UserError
from lion_sweep.models import sparse_head, sparse_head_cpu
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.multi_vector import MultiVectorEncoder
from lion_sweep.training.adapt import IGNORED, mntp_loss

MakeModel = Callable[..., LlamaForCausalLM]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = Lora(rank=16, alpha=32, dropout=0.05, targets=TARGETS)
SHAPES = {
    "1b": DecoderShape(2048, 8192, 16, 32, 8, 64, 128256),
    "3b": DecoderShape(3072, 8192, 28, 24, 8, 128, 128256),
    "8b": DecoderShape(4096, 14336, 32, 32, 8, 128, 128256),
}
# projections, head, adapters of rank 16
PARAMETERS = {
    "1b": (973078528, 262668288, 11272192),
    "3b": (2818572288, 394002432, 24313856),
    "8b": (6979321856, 525336576, 41943040),
}
# tokens, then training FLOPs with rank-16 adapters: dense, sparse
TRAINING = [
    ("1b", 16, 63459819520, 72390541312),
    ("1b", 64, 255047237632, 289194115072),
    ("1b", 128, 513315700736, 581084119040),
    ("1b", 192, 774805389312, 876195348480),
    ("1b", 512, 2130572214272, 2400069877760),
    ("3b", 16, 182986997760, 196383080448),
    ("3b", 64, 735118884864, 786339201024),
    ("3b", 128, 1478693486592, 1580346114048),
    ("3b", 192, 2230723805184, 2382808743936),
    ("3b", 512, 6117711151104, 6521957646336),
    ("8b", 16, 451105783808, 468967227392),
    ("8b", 64, 1809254973440, 1877548728320),
    ("8b", 128, 3631394848768, 3766931685376),
    ("8b", 192, 5466419625984, 5669199544320),
    ("8b", 512, 14834817040384, 15373812367360),
]
TINY = DecoderShape(8, 12, 2, 4, 2, 2, 30)
lengths = st.lists(st.integers(0, 600), min_size=1, max_size=6)
adapters = st.sampled_from([None, Lora(rank=2, alpha=4, dropout=0.0, targets=["q_proj"]), LORA])


def one(shape: DecoderShape, length: int, **how: object) -> int:
    return int(sequence_flops(shape, np.array([length]), **how)[0])


@pytest.mark.parametrize("name", SHAPES)
def test_parameters(name: str) -> None:
    shape = SHAPES[name]
    assert (
        shape.linear_parameters,
        shape.head_parameters,
        shape.lora_parameters(LORA),
    ) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "length", "dense", "sparse"), TRAINING)
def test_training_flops(name: str, length: int, dense: int, sparse: int) -> None:
    assert one(SHAPES[name], length, sparse=False, lora=LORA) == dense
    assert one(SHAPES[name], length, sparse=True, lora=LORA) == sparse


def test_shape_of_a_configuration() -> None:
    config = LlamaConfig(
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=128256,
    )
    assert DecoderShape.of(config) == SHAPES["3b"]


def test_another_architecture_is_refused() -> None:
    with pytest.raises(UserError, match="gpt2"):
        DecoderShape.of(GPT2Config())


SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": None,
}


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        ("qwen3", {"head_dim": 8}),
        ("gemma2", {"head_dim": 8}),
        ("glm", {"head_dim": 8}),
        ("phi3", {}),
        # No gate, and projections that are not Llama's seven in other ways.
        ("arcee", {}),
        ("falcon", {}),
        ("gpt_neox", {"num_key_value_heads": None}),
        ("phi", {}),
        ("starcoder2", {}),
    ],
)
def test_flops_of_other_decoders_are_those_that_pytorch_counts(
    kind: str, others: dict[str, object]
) -> None:
    config = AutoConfig.for_model(kind, **{**SMALL, **others})
    told = config.to_dict()
    shape = DecoderShape.of(config)
    assert config.to_dict() == told
    model = AutoModel.from_config(config, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, 24, dtype=torch.long), use_cache=False)
    expected = one(shape, 24, sparse=False, lora=None, backward=False)
    assert counter.get_total_flops() == expected
    lora = Lora(rank=4, alpha=8, dropout=0.0, targets=["q_proj", "up_proj"])
    if shape.matrices:
        with pytest.raises(UserError, match=r"lora.targets has up_proj.*=\[q_proj,k_proj,v_proj,o"):
            shape.lora_parameters(lora)
    else:
        assert shape.lora_parameters(lora) == 2 * 4 * (32 + 32 + 32 + 48)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_decoders_of_which_a_token_takes_a_part_are_refused(kind: str) -> None:
    config = AutoConfig.for_model(kind, **SMALL, head_dim=8, moe_intermediate_size=16)
    with pytest.raises(UserError, match=f"of type '{kind}' has experts"):
        DecoderShape.of(config)


def counted(
    make_model: MakeModel,
    *,
    sparse: bool,
    targets: list[str],
    checkpointed: bool = False,
    cached: bool = False,
    attention: str = "eager",
    **settings: object,
) -> tuple[int, LlamaForCausalLM]:
    """FLOPs that PyTorch counts on a step of 3 padded texts of 24 tokens, and the model."""
    model = make_model(attn_implementation=attention, intermediate_size=80, **settings)
    backbone = Backbone(model)
    if targets:
        lora = Lora(rank=4, alpha=8, dropout=0.0, targets=targets)
        backbone = backbone.with_lora(lora)
    if checkpointed:  # as the study has it
        model.gradient_checkpointing_enable({"use_reentrant": False})
    backbone.train()
    ids = torch.randint(0, model.config.vocab_size, (3, 24))
    mask = torch.ones_like(ids)
    mask[0, 20:] = 0

    def forward() -> Tensor:
        states = backbone.hidden_states(ids, mask)
        return states @ backbone.head_VD.T if sparse else states

    with FlopCounterMode(display=False) as counter:
        if cached:
            with torch.no_grad():
                forward()
        forward().sum().backward()
    return counter.get_total_flops(), model


def dense_head(shape: DecoderShape, *, sparse: bool, lora: Lora | None) -> int:
    """What differentiating all logits of a text takes beyond the argmax backward pass."""
    return (1 if lora else 2) * 2 * shape.head_parameters * (24 - 1) * sparse


@pytest.mark.parametrize("how", [{}, {"checkpointed": True}, {"cached": True}], ids=str)
@pytest.mark.parametrize(
    "targets",
    [[], TARGETS, ["q_proj", "v_proj"], *([n] for n in TARGETS if n not in ("q_proj", "v_proj"))],
    ids=lambda targets: "+".join(targets) or "full",
)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_executed_flops_are_those_that_pytorch_counts(
    make_model: MakeModel, sparse: bool, targets: list[str], how: dict[str, bool]
) -> None:
    found, model = counted(make_model, sparse=sparse, targets=targets, **how)
    lora = Lora(rank=4, alpha=8, dropout=0.0, targets=targets) if targets else None
    shape, texts = DecoderShape.of(model.config), np.array([24])
    if how.get("checkpointed"):
        expected = checkpointed_flops(shape, texts, sparse=sparse, lora=lora)
    else:
        cached = how.get("cached", False)
        expected = executed_flops(shape, texts, sparse=sparse, lora=lora, cached=cached)
    assert found == 3 * (int(expected[0]) + dense_head(shape, sparse=sparse, lora=lora))


@pytest.mark.parametrize(("hidden", "layers", "heads"), [(32, 1, 4), (48, 3, 3), (64, 3, 4)])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_useful_flops_of_full_training_are_those_that_pytorch_counts(
    make_model: MakeModel, hidden: int, layers: int, heads: int, tied: bool, sparse: bool
) -> None:
    """Nothing padded or computed twice: both ledgers and the counter agree."""
    found, model = counted(
        make_model,
        sparse=sparse,
        targets=[],
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
    )
    shape = DecoderShape.of(model.config)
    expected = one(shape, 24, sparse=sparse, lora=None)
    assert found == 3 * (expected + dense_head(shape, sparse=sparse, lora=None))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("targets", [[], TARGETS], ids=["full", "lora"])
def test_a_vector_per_token_costs_what_pytorch_counts(
    make_model: MakeModel, targets: list[str], cached: bool
) -> None:
    """Its projection, at every padded token; all weights or adapters train, and it does."""
    lora = Lora(rank=4, alpha=8, dropout=0.0, targets=targets) if targets else None
    backbone = Backbone(make_model(attn_implementation="eager"))
    encoder = MultiVectorEncoder(backbone.with_lora(lora) if lora else backbone, 5, 0)
    ids, mask = torch.randint(0, 97, (3, 24)), torch.ones(3, 24, dtype=torch.long)
    mask[0, 20:] = 0
    encoder.backbone.train()
    with FlopCounterMode(display=False) as counter:
        if cached:
            with torch.no_grad():
                encoder(ids, mask)
        encoder(ids, mask).sum().backward()
    shape = replace(DecoderShape.of(backbone.language_model.config), projection=5)
    expected = executed_flops(shape, np.array([24]), sparse=False, lora=lora, cached=cached)
    assert counter.get_total_flops() == 3 * int(expected[0])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(ids, mask)
    if not lora:  # which is merged before anything is encoded
        encoding = Meter.of_encoding(shape, 24, sparse=False)
        assert counter.get_total_flops() == 3 * encoding.hardware_L[24]


def test_the_counter_misses_fused_attention_on_a_cpu_and_nothing_else(
    make_model: MakeModel,
) -> None:
    found, model = counted(make_model, sparse=True, targets=[], attention="sdpa")
    plain, _ = counted(make_model, sparse=True, targets=[], attention="eager")
    shape = DecoderShape.of(model.config)
    assert plain - found == 3 * 12 * shape.layers * shape.heads * shape.head_dim * 24**2


def test_the_sparse_head_is_a_product_forward_and_none_backward() -> None:
    hidden_TD, weight_VD = torch.randn(72, 32), torch.randn(97, 32)
    start_P = torch.tensor([0, 24, 48, 72])
    shape = DecoderShape(32, 48, 2, 4, 2, 8, 97)
    with FlopCounterMode(display=False) as counter:
        largest_BC, place_BC = sparse_head_cpu.maxima(hidden_TD, start_P, weight_VD)
    assert counter.get_total_flops() == 2 * shape.head_parameters * 72
    with FlopCounterMode(display=False) as counter:  # its gathers are no matrix products
        arguments = largest_BC, largest_BC, place_BC, start_P, hidden_TD, weight_VD
        sparse_head.head_backward(*arguments, None, 1.0, [True, True])
    assert counter.get_total_flops() == 0


@given(lengths, st.booleans(), adapters, st.booleans())
def test_texts_add_up(texts: list[int], sparse: bool, lora: Lora | None, backward: bool) -> None:
    how = {"sparse": sparse, "lora": lora, "backward": backward}
    together = sequence_flops(TINY, np.array(texts), **how)
    assert together.tolist() == [one(TINY, length, **how) for length in texts]


@given(st.integers(1, 600), adapters)
def test_parts_add_up(length: int, lora: Lora | None) -> None:
    def flops(sparse: bool, backward: bool) -> int:
        return one(TINY, length, sparse=sparse, lora=lora, backward=backward)

    head = 2 * 8 * 30
    assert flops(True, False) - flops(False, False) == head * length
    # The argmax backward pass touches one position per vocabulary entry, whatever the length.
    gradients = 1 if lora else 2
    assert flops(True, True) - flops(False, True) == head * length + gradients * head


@given(st.integers(0, 600), st.integers(1, 50), st.booleans(), adapters)
def test_longer_costs_more(length: int, more: int, sparse: bool, lora: Lora | None) -> None:
    for backward in (False, True):
        how = {"sparse": sparse, "lora": lora, "backward": backward}
        assert one(TINY, length + more, **how) > one(TINY, length, **how)
    assert one(TINY, length + more, sparse=sparse, lora=lora) > one(
        TINY, length + more, sparse=sparse, lora=lora, backward=False
    )


def test_a_long_batch_does_not_overflow() -> None:
    flops = sequence_flops(SHAPES["8b"], np.array([8192], dtype=np.int32), sparse=True, lora=None)
    assert flops.dtype == np.int64
    linear, head, _ = PARAMETERS["8b"]
    expected = 6 * linear * 8192 + 12 * 32 * 32 * 128 * 8192**2 + 2 * head * 8192 + 4 * head
    assert int(flops[0]) == expected


@pytest.mark.parametrize(
    ("lora", "rows_train"),
    [(None, False), (None, True), (LORA, False)],
    ids=["layers", "full", "lora"],
)
def test_mntp_costs_what_pytorch_counts(
    make_model: MakeModel, lora: Lora | None, rows_train: bool
) -> None:
    backbone = Backbone(make_model(attn_implementation="eager"))
    rows = backbone.language_model.get_input_embeddings().weight, backbone.head_VD
    shape = DecoderShape.of(backbone.language_model.config)
    backbone = backbone.with_lora(lora) if lora else backbone
    for weight in rows:
        weight.requires_grad_(rows_train)
    settings = Adapt(steps=1, batch_size=3, chunk=12, mask_probability=0.5, learning_rate=1.0)
    settings.embedding_rate = 1.0 if rows_train else None
    inputs = torch.randint(1, 97, (3, 12))
    targets = torch.where(torch.rand(3, 12) < 0.5, inputs, IGNORED)
    asked = int((targets[:, 1:] != IGNORED).sum())
    with FlopCounterMode(display=False) as counter:
        mntp_loss(backbone.train(), inputs, targets).backward()
    assert (
        counter.get_total_flops() == mntp_spending(shape, settings, lora, 3, asked).hardware_flops
    )


@given(
    st.builds(DecoderShape, *[st.integers(1, 300)] * 7),
    st.sampled_from([entry.name for entry in fields(DecoderShape) if entry.name != "matrices"]),
    st.lists(st.integers(1, 600), min_size=1, max_size=6),
    st.booleans(),
    adapters,
)
def test_a_larger_decoder_costs_more_and_order_does_not_matter(
    shape: DecoderShape, size: str, texts: list[int], sparse: bool, lora: Lora | None
) -> None:
    larger = replace(shape, **{size: getattr(shape, size) + 1})
    before, after = (
        sequence_flops(decoder, np.array(texts), sparse=sparse, lora=lora)
        for decoder in (shape, larger)
    )
    if size == "vocabulary" and not sparse:
        assert (after == before).all()
    else:
        assert (after > before).all()
    backwards = sequence_flops(shape, np.array(texts[::-1]), sparse=sparse, lora=lora)
    assert backwards.tolist() == before.tolist()[::-1]
