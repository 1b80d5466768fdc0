"""Whether two models rank a sample of a cell's collection alike.

Shapes: Q queries, N passages, D dimensions, K best passages of a query.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from lion_sweep.config import Config
from lion_sweep.data.batches import pad
from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.data.tokens import of as tokens_of
from lion_sweep.interop.checkpoints import Checkpoint
from lion_sweep.machine.progress import Progress
from lion_sweep.stages import contract
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.workshop import Workshop

PASSAGES, QUERIES, COMPARED = 500, 50, 100
# Share of a query's best score. What is closer together than that may change places: folding a
# factor into weights changes the last bits of what they make.
ROUNDING = 1e-5


class Sample(NamedTuple):
    """Texts, and the tokens at which they are cut."""

    queries: list[str]
    passages: list[str]
    query_length: int
    passage_length: int


class Vectors(NamedTuple):
    """What a model makes of a sample."""

    queries_QD: NDArray[np.float32]
    passages_ND: NDArray[np.float32]


def of_collection(config: Config, tokenizer: PreTrainedTokenizerBase) -> Sample:
    """The first passages and test queries of a cell's collection that have a token at all.

    We give the others a token of padding, which libraries do not.
    """
    shop = Workshop(Path(config.paths.root), Progress(config.data.name, None))
    source, split = evaluation_sets(config, shop)[config.data.name]
    collection = source.read(shop)

    def readable(texts: list[str]) -> list[str]:
        found = tokenizer(texts)["input_ids"]
        return [text for text, ids in zip(texts, found, strict=True) if ids]

    return Sample(
        readable(collection.queries.of(collection.judged[split].asked[:QUERIES])),
        readable(next(collection.documents.batches())[:PASSAGES]),
        config.evaluation.query_length,
        config.evaluation.passage_length,
    )


@torch.no_grad()
def encode(checkpoint: Checkpoint, sample: Sample) -> Vectors:
    """Our vectors, text by text in fp32: sums of a batch depend on what else is in it."""
    tokenizer = tokenizer_of(checkpoint.source)
    encoder = checkpoint.make(torch.float32)
    encoder.backbone.eval()

    text, cpu = checkpoint.text, torch.device("cpu")

    def vectors(texts: list[str], length: int, what: str) -> NDArray[np.float32]:
        made = tokens_of(texts, tokenizer, length, contract.frame_of(text, what), echo=text.echo)
        batches = (pad([made.text(row, length)], cpu) for row in range(len(made)))
        return np.stack([encoder.finished(encoder(*batch), what).numpy()[0] for batch in batches])

    return Vectors(
        vectors(sample.queries, sample.query_length, contract.QUERIES),
        vectors(sample.passages, sample.passage_length, contract.PASSAGES),
    )


def misplaced(ours: Vectors, theirs: Vectors) -> float:
    """Share of the places 1 to K where they rank a passage that we score otherwise.

    Passages that we score alike, within rounding, may stand in each other's place.
    """
    ours_QN, theirs_QN = (
        queries_QD.astype(np.float64) @ passages_ND.astype(np.float64).T
        for queries_QD, passages_ND in (ours, theirs)
    )
    # Our scores of what stands at each place, in our order and in theirs.
    expected_QK, found_QK = (
        np.take_along_axis(ours_QN, np.argsort(-scores_QN, axis=1, kind="stable"), axis=1)
        for scores_QN in (ours_QN, theirs_QN)
    )
    off_QK = np.abs(expected_QK - found_QK)[:, :COMPARED]
    return float(np.mean(off_QK > ROUNDING * np.abs(ours_QN).max(axis=1, keepdims=True)))
