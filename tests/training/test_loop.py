"""Micro-batches sorted by length must give the loss and gradients of one padded batch."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from lion_sweep.config import Recipe
from lion_sweep.data.batches import pad
from lion_sweep.ledger import DecoderShape, executed_flops, sequence_flops
from lion_sweep.meter import Meter
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.training.loop import embed

SHAPE = DecoderShape(8, 12, 2, 4, 2, 2, 30)


@pytest.mark.parametrize("paradigm", ["dense", "sparse"])
def test_micro_batches_equal_one_padded_batch(paradigm: str, backbone: object) -> None:
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, 97, size=n).astype(np.int32) for n in (3, 11, 1, 7, 7, 16, 2)]
    lengths = np.array([len(text) for text in texts])
    accelerator = Accelerator(cpu=True)
    encoder = (
        DenseEncoder(backbone, "mean") if paradigm == "dense" else SparseEncoder(backbone, -0.2)
    )
    weights = torch.randn(len(texts), encoder.dimensions)

    def gradients(vectors: torch.Tensor) -> list[torch.Tensor]:
        backbone.zero_grad()
        (vectors * weights).sum().backward()
        return [p.grad.clone() for p in backbone.parameters() if p.grad is not None]

    plain = encoder(*pad(texts, torch.device("cpu")))
    expected = gradients(plain)
    meter = Meter.of_training(SHAPE, 16, sparse=False, recipe=Recipe(gradient_checkpointing=False))
    cut, spent = embed(encoder, texts, 20, meter, accelerator)
    padded = [16, 11, 7, 7, 3, 3, 3]  # micro-batches of at most 20 tokens
    assert spent.useful_flops == sequence_flops(SHAPE, lengths, sparse=False, lora=None).sum()
    assert spent.hardware_flops == executed_flops(SHAPE, padded, sparse=False, lora=None).sum()
    assert spent.tokens == lengths.sum()
    torch.testing.assert_close(cut, plain, rtol=1e-5, atol=1e-5)
    for got, wanted in zip(gradients(cut), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_rank_parts_refuses_an_uneven_cut() -> None:
    from lion_sweep.data.batches import Step
    from lion_sweep.errors import UserError
    from lion_sweep.training.loop import rank_parts

    step = Step(np.arange(6), np.arange(6)[:, None], np.zeros((6, 1), dtype=np.float32))
    with pytest.raises(UserError, match=r"loss\.batch_size=6"):
        rank_parts(step, 1, SimpleNamespace(num_processes=4, process_index=0))
