"""Micro-batches sorted by length must give the loss and gradients of one padded batch."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import LlamaForCausalLM

from lion_sweep.config import Lora
from lion_sweep.cost.ledger import DecoderShape, executed_flops, sequence_flops
from lion_sweep.cost.meter import Meter
from lion_sweep.data.batches import Step, pad
from lion_sweep.errors import UserError
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.flops import FlopsRegulariser
from lion_sweep.losses.listwise_kl import ListwiseKL
from lion_sweep.losses.margin_mse import MarginMSE
from lion_sweep.losses.representations import Representations
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.encoders import Encoder
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.training.embedding import Embedding
from lion_sweep.training.loop import share

SHAPE = DecoderShape(8, 12, 2, 4, 2, 2, 30)
LENGTHS = (3, 11, 1, 7, 7, 16, 2, 9)


def texts() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(3, 97, size=length).astype(np.int32) for length in LENGTHS]


def encoder_of(paradigm: str, backbone: Backbone) -> Encoder:
    if paradigm == "dense":
        return DenseEncoder(backbone, "mean")
    return SparseEncoder(backbone, -0.2)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("paradigm", ["dense", "sparse"])
def test_micro_batches_equal_one_padded_batch(
    paradigm: str, cached: bool, backbone: Backbone
) -> None:
    encoder = encoder_of(paradigm, backbone)
    weights = torch.randn(len(LENGTHS), encoder.shape[0])

    def gradients(vectors: Tensor, after: Callable[[], None]) -> list[Tensor]:
        backbone.zero_grad()
        (vectors * weights).sum().backward()
        after()
        return [p.grad.clone() for p in backbone.parameters() if p.grad is not None]

    plain = encoder(*pad(texts(), torch.device("cpu")))
    expected = gradients(plain, lambda: None)
    cut = Embedding(encoder, texts(), 20, Accelerator(cpu=True), cached=cached)
    assert len(cut.batches) == 5
    torch.testing.assert_close(cut.vectors_ND, plain, rtol=1e-5, atol=1e-5)
    found = gradients(cut.vectors_ND, cut.backward)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cached", [False, True])
def test_what_a_step_spends(backbone: Backbone, cached: bool) -> None:
    embedding = Embedding(
        encoder_of("dense", backbone), texts(), 20, Accelerator(cpu=True), cached=cached
    )
    spent = embedding.spending(Meter.of_training(SHAPE, 16, sparse=False, lora=None, cached=cached))
    padded = [16, 11, 9, 9, 7, 7, 2, 2]  # micro-batches of at most 20 tokens
    useful = sequence_flops(SHAPE, np.array(LENGTHS), sparse=False, lora=None)
    executed = executed_flops(SHAPE, np.array(padded), sparse=False, lora=None, cached=cached)
    assert spent.useful_flops == useful.sum()
    assert spent.hardware_flops == executed.sum()
    assert spent.tokens == sum(LENGTHS)


@pytest.mark.parametrize("paradigm", ["dense", "sparse"])
@pytest.mark.parametrize(
    "loss",
    [
        Contrastive(1.0),
        Contrastive(1.0, candidates=3, devices=4, false_negative_margin=0.35),
        MarginMSE(1.0),
        ListwiseKL(1.0, student_temperature=2.0),
        FlopsRegulariser(0.3, 0.2, 0.0),
        FlopsRegulariser(0.3, 0.2, 0.0, pool=1, apart=True, devices=4),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_cached_gradients_are_the_plain_ones_with_their_dropout(
    make_model: Callable[..., LlamaForCausalLM], loss: object, paradigm: str
) -> None:
    """And they leave the random generator where the plain ones do."""
    lora = Lora(rank=4, alpha=8, dropout=0.3, targets=["q_proj", "up_proj"])
    backbone = Backbone(make_model()).with_lora(lora).train()
    for name, parameter in backbone.trainable().items():
        torch.nn.init.normal_(parameter, std=0.2 if "lora_B" in name else 0.1)
    found = {}
    for cached in (False, True):
        torch.manual_seed(3)
        backbone.zero_grad()
        encoder = encoder_of(paradigm, backbone)
        embedding = Embedding(encoder, texts(), 20, Accelerator(cpu=True), cached=cached)
        query_BD, passage_ND = embedding.vectors_ND[:2], embedding.vectors_ND[2:]
        step = Representations(
            query_BD=query_BD,
            passage_BGD=passage_ND.unflatten(0, (2, 3)),
            all_query_QD=query_BD,
            candidate_CD=passage_ND,
            offset=0,
            temperature=0.5,
            teacher_BG=torch.tensor([[3.0, 1.0, 2.0], [0.5, 0.2, 0.1]]),
        )
        if isinstance(loss, FlopsRegulariser):
            torch.stack(list(loss(step, 1.0).values())).sum().backward()
        else:
            loss(step).backward()
        embedding.backward()
        gradients = {name: p.grad.clone() for name, p in backbone.trainable().items()}
        found[cached] = gradients, torch.rand(3)
    (plain, after_plain), (cached_ones, after_cached) = found[False], found[True]
    assert max(grad.abs().max() for grad in plain.values()) > 1e-5
    torch.testing.assert_close(cached_ones, plain, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(after_cached, after_plain, rtol=0, atol=0)


def test_an_uneven_share_is_refused() -> None:
    step = Step(np.arange(6), np.arange(6)[:, None], np.zeros((6, 1), dtype=np.float32))
    with pytest.raises(UserError, match=r"loss\.batch_size=6"):
        share(step, SimpleNamespace(num_processes=4, process_index=0))
