"""A training step with cached gradients, against the cached losses of sentence-transformers.

`python -m benchmarks.gradient_cache`. Both sides encode every micro-batch twice and hold the graph
of one at a time. CachedMultipleNegativesRankingLoss is the dense side, CachedSpladeLoss over
SparseMultipleNegativesRankingLoss the sparse one, of stock modules on our decoder. They take a
step as columns (queries, positives, first negatives, ...), each padded to its longest text and cut
into mini-batches of 16 rows, which drop the padding that none of their rows needs; there is no way
to have texts sorted. Ours sorts all texts of the step and cuts by padded tokens: 2,048, as much as
16 passages of the longest length.

A random decoder of 1.5 million weights with LoRA in fp32, a head of 4,096 entries of which 1 % are
active. Loss and gradients are those of the same step on both sides.

Shapes: N texts, B queries, G passages of a query, D dimensions.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.sparse_encoder.losses import (
    CachedSpladeLoss,
    SparseMultipleNegativesRankingLoss,
)
from sentence_transformers.sparse_encoder.modules import SpladePooling
from sentence_transformers.util import dot_score
from torch import Tensor, nn

from benchmarks import interleaved
from benchmarks.machine import CPU
from benchmarks.workload import (
    ADAPTERS,
    PROXY,
    SIZES,
    agree,
    decoder,
    represent,
    step_texts,
    threshold,
)
from lion_sweep.data.batches import pad
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.flops import FlopsRegulariser
from lion_sweep.models import dense, sparse
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.encoders import Encoder
from lion_sweep.training.embedding import Embedding

QUERIES, GROUP, MINI_BATCH = 16, 8, 16
ACTIVE = 0.01
QUERY_WEIGHT, PASSAGE_WEIGHT = 0.05, 0.04  # of the FLOPS regulariser
TEMPERATURE = {"dense": 0.05, "sparse": 1.0}
STATES = "token_embeddings"  # as sentence-transformers calls them


class Decoder(nn.Module):
    """Our decoder as the first module of their models."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the states of the tokens."""
        mask_BL = features["attention_mask"]
        return features | {STATES: self.backbone.hidden_states(features["input_ids"], mask_BL)}


def theirs(backbone: Backbone, encoder: Encoder) -> nn.Module:
    """Their loss of the same vectors."""
    first = Decoder(backbone)
    if isinstance(encoder, dense.DenseEncoder):
        after = [Pooling(encoder.dimensions, "mean"), Normalize()]
        return CachedMultipleNegativesRankingLoss(
            SentenceTransformer(modules=[first, *after], device="cpu"),
            scale=1 / TEMPERATURE["dense"],
            similarity_fct=dot_score,
            mini_batch_size=MINI_BATCH,
        )
    assert isinstance(encoder, sparse.SparseEncoder)
    head_VD = backbone.head_VD.detach()
    head = Dense(
        head_VD.shape[1],
        head_VD.shape[0],
        activation_function=None,
        init_weight=encoder.scale * head_VD,
        init_bias=torch.full((len(head_VD),), -encoder.threshold),
        module_input_name=STATES,
    ).requires_grad_(False)
    model = SparseEncoder(modules=[first, head, SpladePooling("max")], device="cpu")
    return CachedSpladeLoss(
        model,
        SparseMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE["sparse"]),
        document_regularizer_weight=PASSAGE_WEIGHT,
        query_regularizer_weight=QUERY_WEIGHT,
        mini_batch_size=MINI_BATCH,
    )


def sides(paradigm: str, tokens: int) -> Mapping[str, Callable[[], list[Tensor]]]:
    """Both ways to (loss, gradients of the adapters)."""
    torch.manual_seed(0)
    shape = SIZES[PROXY]
    backbone = decoder(shape, tied=False, lora=ADAPTERS).train()
    texts = step_texts(QUERIES, GROUP, shape.vocabulary)
    encoder: Encoder = dense.DenseEncoder(backbone, "mean")
    if paradigm == "sparse":
        limit = threshold(backbone, texts[QUERIES:], ACTIVE, CPU)
        encoder = sparse.SparseEncoder(backbone, limit)
    loss, parameters = theirs(backbone, encoder), list(backbone.trainable().values())
    regulariser = FlopsRegulariser(QUERY_WEIGHT, PASSAGE_WEIGHT, 0.0)
    starts = [[0, 1], *([QUERIES + place, GROUP] for place in range(GROUP))]
    columns = []
    for first, stride in starts:
        ids_BL, mask_BL = pad(texts[first::stride][:QUERIES], CPU.device)
        columns.append({"input_ids": ids_BL, "attention_mask": mask_BL})

    def finished(value: Tensor) -> list[Tensor]:
        gradients = [p.grad for p in parameters if p.grad is not None]
        backbone.zero_grad()
        return [value.detach(), *gradients]

    def our_step() -> list[Tensor]:
        embedding = Embedding(encoder, texts, tokens, CPU, cached=True)  # type: ignore[arg-type]
        step = represent(embedding.vectors_ND, QUERIES, TEMPERATURE[paradigm])
        terms = [Contrastive(1.0)(step)]
        if paradigm == "sparse":
            terms += regulariser(step, 1.0).values()
        value = torch.stack(terms).sum()
        value.backward()
        embedding.backward()
        return finished(value)

    def their_step() -> list[Tensor]:
        found: Any = loss(columns, torch.arange(QUERIES))
        value = sum(found.values()) if isinstance(found, dict) else found
        value.backward()
        return finished(value)

    return {"ours": our_step, "sentence-transformers": their_step}


def main() -> None:
    """Check that losses and gradients agree, then time the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=2048, help="padded ones of a micro-batch")
    options = parser.parse_args()
    measured = {}
    for paradigm in ("dense", "sparse"):
        steps = sides(paradigm, options.tokens)
        found, expected = (side() for side in steps.values())
        agree(f"{paradigm} loss", found[0], expected[0], 1e-5)
        for one, other in zip(found[1:], expected[1:], strict=True):
            agree(f"{paradigm} gradient", one, other, 1e-3)
        measured[f"{paradigm} step"] = interleaved.seconds(steps, options.rounds)
    first, *_ = measured
    interleaved.report(
        measured.pop(first),
        checked="losses to 1e-5, gradients of every adapter to 1e-3 of their norm; shown first: "
        f"{first}",
        packages=["torch", "transformers", "peft", "sentence-transformers"],
        facts={
            **vars(options),
            "queries": QUERIES,
            "passages of a query": GROUP,
            "mini-batch of sentence-transformers": MINI_BATCH,
            "threads": torch.get_num_threads(),
        },
        cases=measured,
    )


if __name__ == "__main__":
    main()
