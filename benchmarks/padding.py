"""A training step whose texts are sorted by length, against one that pads all to the longest.

`python -m benchmarks.padding`. Lengths are log-normal, seeded, around the means of MS MARCO:
queries 10 tokens (at most 64), passages 75 (at most 128). The released loop takes texts as they
come and pads queries to the longest query, passages to the longest passage; ours sorts all texts of
the step and cuts micro-batches by tokens. A random decoder of 1.5 million weights, fp32.
"""

import argparse

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import interleaved
from lion_sweep.data.batches import pad
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.representations import Representations
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.training.embedding import Embedding

QUERIES, GROUP, VOCABULARY = 8, 17, 4096
CPU = torch.device("cpu")


def lengths(random: np.random.Generator, mean: int, most: int, count: int) -> np.ndarray:
    """Log-normal lengths of that mean before the longest are cut."""
    spread = 0.5
    drawn = random.lognormal(np.log(mean) - spread**2 / 2, spread, count)
    return np.clip(drawn.round(), 3, most).astype(int)


def loss_of(vectors_ND: Tensor) -> Tensor:
    """InfoNCE over all passages."""
    query_BD, passage_ND = vectors_ND[:QUERIES], vectors_ND[QUERIES:]
    grouped_BGD = passage_ND.unflatten(0, (QUERIES, GROUP))
    step = Representations(query_BD, grouped_BGD, query_BD, passage_ND, 0, 0.05)
    return Contrastive(1.0)(step)


def main() -> None:
    """Check that losses and gradients agree, then time the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=2048, help="padded ones of a micro-batch")
    options = parser.parse_args()
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        is_causal=False,
    )
    backbone = Backbone(LlamaForCausalLM._from_config(config))
    encoder, accelerator = DenseEncoder(backbone, "mean"), Accelerator(cpu=True)
    sizes = [lengths(random, 10, 64, QUERIES), lengths(random, 75, 128, QUERIES * GROUP)]
    texts = [
        random.integers(3, VOCABULARY, size).astype(np.int32) for size in np.concatenate(sizes)
    ]
    parameters = [p for name, p in backbone.named_parameters() if "lm_head" not in name]

    def by_length() -> tuple[Tensor, ...]:
        embedding = Embedding(encoder, texts, options.tokens, accelerator, cached=False)
        loss = loss_of(embedding.vectors_ND)
        return loss, *torch.autograd.grad(loss, parameters)

    def to_the_longest() -> tuple[Tensor, ...]:
        parts = [encoder(*pad(part, CPU)) for part in (texts[:QUERIES], texts[QUERIES:])]
        loss = loss_of(torch.cat(parts))
        return loss, *torch.autograd.grad(loss, parameters)

    for found, expected in zip(by_length(), to_the_longest(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    real = int(sum(size.sum() for size in sizes))
    padded = int(sum(len(size) * size.max() for size in sizes))
    sides = {"sorted by length": by_length, "padded to the longest": to_the_longest}
    interleaved.report(
        interleaved.seconds(sides, options.rounds),
        checked="loss and gradients to 1e-5",
        packages=["torch", "transformers", "numpy"],
        facts={
            **vars(options),
            "texts": len(texts),
            "real tokens": real,
            "padded tokens": padded,
            "padded / real": round(padded / real, 3),
            "threads": torch.get_num_threads(),
        },
    )


if __name__ == "__main__":
    main()
