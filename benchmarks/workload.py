"""What benchmarks of training and encoding run on: random decoders, texts of MS MARCO's lengths.

Speed does not hang on what weights say, and pretrained ones are not everywhere. Lengths are
log-normal and seeded: queries 10 tokens on average, passages 75, the longest cut.

Shapes: N texts, B queries, G passages of a query, D dimensions, V vocabulary entries.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.machine import Device
from benchmarks.study_compute import LORA, SHAPES
from lion_sweep.config import Lora
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.data.batches import pad
from lion_sweep.losses.representations import Representations
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.sparse import SparseEncoder

PROXY = "proxy"  # 1.5 million weights and as many of embedding and head
TINY = "tiny"  # for code that only has to run
SIZES = {
    PROXY: DecoderShape(128, 512, 4, 4, 2, 32, 4096),
    TINY: DecoderShape(16, 32, 2, 2, 1, 8, 256),
    **SHAPES,
}
TIED = {PROXY: False, TINY: True, "1b": True, "3b": True, "8b": False}
ON_CPU = (PROXY, TINY)  # sizes that run there
ADAPTERS = replace(LORA, dropout=0.0)  # with dropout no two sides agree
QUERY_MEAN, PASSAGE_MEAN = 10, 75
QUERY_MOST, PASSAGE_MOST, ENCODED_MOST = 64, 128, 192  # as the study cuts them


def lengths(random: np.random.Generator, mean: int, most: int, count: int) -> NDArray[np.int64]:
    """Log-normal lengths of that mean before the longest are cut, [N]."""
    spread = 0.5
    drawn_N = random.lognormal(np.log(mean) - spread**2 / 2, spread, count)
    return np.clip(drawn_N.round(), 3, most).astype(np.int64)


def step_texts(queries: int, group: int, vocabulary: int) -> list[NDArray[np.int32]]:
    """Random tokens of a step's queries, then of `group` passages of each, cut as in training."""
    random = np.random.default_rng(0)
    parts = (
        lengths(random, QUERY_MEAN, QUERY_MOST, queries),
        lengths(random, PASSAGE_MEAN, PASSAGE_MOST, queries * group),
    )
    return _tokens(random, np.concatenate(parts), vocabulary)


def encoded_texts(count: int, vocabulary: int) -> list[NDArray[np.int32]]:
    """Random tokens of passages, cut as in encoding."""
    random = np.random.default_rng(0)
    return _tokens(random, lengths(random, PASSAGE_MEAN, ENCODED_MOST, count), vocabulary)


def _tokens(
    random: np.random.Generator, lengths_N: NDArray[np.int64], vocabulary: int
) -> list[NDArray[np.int32]]:
    return [random.integers(3, vocabulary, length).astype(np.int32) for length in lengths_N]


def represent(vectors_ND: Tensor, queries: int, temperature: float) -> Representations:
    """What losses read of a step's queries and passages, in the order of `step_texts`."""
    query_BD, passage_ND = vectors_ND[:queries], vectors_ND[queries:]
    grouped_BGD = passage_ND.unflatten(0, (queries, -1))
    return Representations(query_BD, grouped_BGD, query_BD, passage_ND, 0, temperature)


def decoder(
    shape: DecoderShape,
    *,
    tied: bool,
    lora: Lora | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Backbone:
    """A bidirectional Llama whose weights are made on the device.

    Adapters do something, as they do in training from its second step on.
    """
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=tied,
        pad_token_id=0,
        is_causal=False,
    )
    with torch.device(device):
        backbone = Backbone(LlamaForCausalLM._from_config(config, dtype=dtype))
        if lora:
            backbone = backbone.with_lora(lora)
    for name, parameter in backbone.trainable().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return backbone


def threshold(
    backbone: Backbone, passages: list[NDArray[np.int32]], share: float, device: Device
) -> float:
    """The sparse encoder's threshold that leaves `share` of the entries of passages active."""
    encoder = SparseEncoder(backbone, 0.0)
    with torch.no_grad(), device.autocast():
        y_NV = encoder(*pad(passages[:32], device.device))
    return float(np.quantile(y_NV.expm1().cpu().numpy(), 1 - share))


def agree(name: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    """End the benchmark where two sides differ by more than that share of their norm."""
    apart = float((found.detach().float() - expected.detach().float()).norm() / expected.norm())
    if not apart <= tolerance:
        raise SystemExit(f"{name}: the sides are {apart:.1e} apart, nothing was timed.")
