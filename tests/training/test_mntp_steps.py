"""Whole steps of MNTP: what they read, on one rank and on two, and what they make of the weights.

Shapes: B chunks, L tokens.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plain_reference as plain
import pytest
import torch
from plain_reference import Dropout, Optimiser, Terms, Weights
from training_run import (
    CUT,
    MASK,
    Corpus,
    Seen,
    one_thread,
    rates,
    same_change,
    shared_words,
    take_steps,
)

pytestmark = pytest.mark.usefixtures("single_thread")
SEED, CHUNK, BATCH, SHARE, IGNORED = 11, 8, 6, 0.4, -100
TOKENS = 4 * CHUNK  # of a micro-batch: of the six chunks of a step, four and two


@dataclass(frozen=True)
class Cell:
    """How the reference adapts."""

    optimiser: Optimiser
    rank: int = 0  # of LoRA
    alpha: float = 12
    dropout: float = 0.3

    @property
    def scaling(self) -> float:
        """Of LoRA's product."""
        return self.alpha / self.rank if self.rank else 1.0


CELLS = {
    "rows-train": Cell(Optimiser(4, 0.004, 0.02)),
    "rows-frozen": Cell(Optimiser(4, 0.004, None)),
    "lora": Cell(Optimiser(4, 0.02, None), rank=4),
}


def words(cell: Cell, *more: str) -> list[str]:
    """The same for the command line; training itself is one step at other rates."""
    optimiser = cell.optimiser
    given = {word.split("=")[0] for word in more}
    usual = [
        "paradigm=dense",
        "loss=cl",
        "loss.batch_size=8",
        "budget.steps=1",
        f"seed={SEED}",
        "recipe.learning_rate=1e-5",
        f"recipe.embedding_rate={'null' if cell.rank else 1e-5}",
        f"recipe.micro_batch_tokens={TOKENS}",
        *shared_words(optimiser, cell.rank, cell.alpha, cell.dropout),
        f"recipe.adapt.steps={optimiser.steps}",
        f"recipe.adapt.batch_size={BATCH}",
        f"recipe.adapt.chunk={CHUNK}",
        f"recipe.adapt.mask_probability={SHARE}",
        *rates("recipe.adapt", optimiser),
    ]
    return [*(word for word in usual if word.split("=")[0] not in given), *more]


def drawn_chunks(corpus: Corpus, step: int) -> np.ndarray:
    """What all ranks together read in a step, [B, L], in equal parts.

    It is drawn from all passages, one after the other, cut into whole chunks.
    """
    ids_T = np.concatenate([passage[: CUT["adapt"]] for passage in corpus.passages])
    chunks = ids_T[: len(ids_T) // CHUNK * CHUNK].reshape(-1, CHUNK)
    return chunks[np.random.default_rng([SEED, 2, step]).integers(0, len(chunks), BATCH)]


def asked(seen: Seen, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(inputs, targets) of every step of a rank, [B, L]."""
    parts = len(seen.chunks) // steps
    return [
        tuple(torch.cat(x).numpy() for x in zip(*seen.chunks[first : first + parts], strict=True))
        for first in range(0, len(seen.chunks), parts)
    ]


def read(inputs_BL: np.ndarray, targets_BL: np.ndarray) -> np.ndarray:
    """The tokens before any was masked."""
    return np.where(targets_BL == IGNORED, inputs_BL, targets_BL)


@pytest.fixture(scope="module")
def starts(
    collection: Path, backbones: dict[bool, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Weights]:
    """What MNTP starts from, by the rank of LoRA: what no step of it leaves."""
    found = {}
    for cell in (CELLS["rows-train"], CELLS["lora"]):
        root, idle = tmp_path_factory.mktemp("idle"), words(cell, "recipe.adapt.steps=0")
        with one_thread():
            found[cell.rank] = take_steps(root, collection, backbones[False], idle).start
    return found


@pytest.mark.parametrize(("name", "ranks"), [*((name, 1) for name in CELLS), ("lora", 2)])
def test_steps_equal_the_reference(
    name: str,
    ranks: int,
    corpus: Corpus,
    collection: Path,
    backbones: dict[bool, Path],
    starts: dict[int, Weights],
    tmp_path: Path,
) -> None:
    cell, start = CELLS[name], starts[CELLS[name].rank]
    more = words(cell, f"site.devices={ranks}")
    run = take_steps(tmp_path, collection, backbones[False], more, ranks)
    steps = cell.optimiser.steps
    batches = [asked(seen, steps) for seen in run.ranks]
    drawn = [Dropout(SEED + rank, cell.dropout, start) for rank in range(ranks)]

    def terms(weights: Weights, step: int) -> Terms:
        found = {}
        counts = [int((of_rank[step][1][:, 1:] != IGNORED).sum()) for of_rank in batches]
        for rank, dropout in enumerate(drawn):
            inputs, targets = (x.tolist() for x in batches[rank][step])
            wanted = [[None if t == IGNORED else t for t in row] for row in targets]
            parts = [inputs[:4], inputs[4:]] if len(inputs) > 4 else [inputs]
            masks = [m for part in parts for m in dropout.of(part)] if cell.rank else None
            loss = plain.next_tokens(inputs, wanted, weights, cell.scaling, masks)
            found[f"rank {rank}"] = loss * counts[rank] / sum(counts)
        return found

    before, losses, trained = start, [], run.ranks[0].adapting
    for number, (found, weights) in enumerate(plain.descend(start, cell.optimiser, terms)):
        losses.append(sum(found.values()))
        same_change(before, trained[number], weights)
        before = before | trained[number]
    assert len(trained) == steps
    assert run.adapted["first_loss"] == pytest.approx(losses[0], rel=1e-4)
    assert run.adapted["last_loss"] == pytest.approx(losses[-1], rel=1e-4)
    for weight_name, weight in run.start.items():
        torch.testing.assert_close(weight, before[weight_name], rtol=0, atol=0)
    for step in range(steps):
        chunks = np.concatenate([read(*of_rank[step]) for of_rank in batches])
        np.testing.assert_array_equal(chunks, drawn_chunks(corpus, step))
        assert {len(of_rank[step][0]) for of_rank in batches} == {BATCH // ranks}


def test_the_share_of_masked_tokens(
    collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    more = ["recipe.adapt.steps=2", "recipe.adapt.batch_size=512", "recipe.micro_batch_tokens=4096"]
    run = take_steps(tmp_path, collection, backbones[False], words(CELLS["rows-frozen"], *more))
    (inputs, targets), _ = asked(run.ranks[0], 2)
    assert (targets[:, 1:] != IGNORED).mean() == pytest.approx(SHARE, abs=0.03)
    assert (inputs == MASK).mean() == pytest.approx(0.8 * SHARE * 7 / 8, abs=0.03)
