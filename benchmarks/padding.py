"""A training step whose texts are sorted by length, against one that pads all to the longest.

`python -m benchmarks.padding`. Lengths are those of `workload`. The released loop takes texts as
they come and pads queries to the longest query, passages to the longest passage; ours sorts all
texts of the step and cuts micro-batches by tokens. A random decoder of 1.5 million weights, fp32.
"""

import argparse

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks import interleaved
from benchmarks.workload import PROXY, SIZES, decoder, represent, step_texts
from lion_sweep.data.batches import pad
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.training.embedding import Embedding

QUERIES, GROUP = 8, 17
CPU = torch.device("cpu")


def loss_of(vectors_ND: Tensor) -> Tensor:
    """InfoNCE over all passages."""
    return Contrastive(1.0)(represent(vectors_ND, QUERIES, 0.05))


def main() -> None:
    """Check that losses and gradients agree, then time the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=2048, help="padded ones of a micro-batch")
    options = parser.parse_args()
    torch.manual_seed(0)
    shape = SIZES[PROXY]
    backbone = decoder(shape, tied=False)
    encoder, accelerator = DenseEncoder(backbone, "mean"), Accelerator(cpu=True)
    texts = step_texts(QUERIES, GROUP, shape.vocabulary)
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
    lengths_N = np.array([len(text) for text in texts])
    parts = lengths_N[:QUERIES], lengths_N[QUERIES:]
    real, padded = int(lengths_N.sum()), int(sum(len(part) * part.max() for part in parts))
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
