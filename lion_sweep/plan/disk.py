"""What cells leave on disk at the least, so that too small a one is refused before hours of work.

Counted are what grows with the data and the models: texts and what is made of them, the vectors of
passages, the weights that are trained.
"""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lion_sweep.cost.memory import saved_bytes
from lion_sweep.errors import UserError
from lion_sweep.stages.base import Stage
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.of_cell import CellStages
from lion_sweep.stages.texts import Source
from lion_sweep.stages.workshop import Workshop

# Texts as Arrow, their tokens, and an index of their words are each about as large as the files.
COPIES_OF_TEXTS = 3
FP32, ENTRY = 4, 8  # bytes of a vector's number, and of a sparse vector's entry


@dataclass(frozen=True)
class Disk:
    """Bytes that are not there yet."""

    vectors: int
    weights: int
    unbounded: bool  # sparse vectors are not counted: nobody knows yet how many entries they have

    @property
    def total(self) -> int:
        return self.vectors + self.weights


Found = tuple[CellStages, Workshop, Callable[[Encode], tuple[int, int]]]
"""A cell, who does it, and how many texts there are to encode, and tokens of them."""


def disk(cells: Iterable[Found]) -> Disk:
    """Of the unfinished stages of some cells."""
    vectors: dict[Stage, int] = {}
    weights: dict[Stage, int] = {}
    unbounded = False
    for cell, shop, sizes in cells:
        for stage, decoder in ((cell.adapt, cell.adapt.decoder), (cell.train, cell.train.decoder)):
            if not shop.find(stage):
                weights[stage] = saved_bytes(decoder, tied=cell.blueprint.tied)
        for encode in (scored.passages for scored in (cell.untrained, *cell.trained.values())):
            if not shop.find(encode):
                unbounded |= encode.sparse and encode.kept_terms is None
                entries = ENTRY * (encode.kept_terms or 0)
                each = entries if encode.sparse else FP32 * cell.blueprint.shape.hidden_size
                texts, tokens = sizes(encode)
                of_tokens = FP32 * encode.projected * tokens
                vectors[encode] = of_tokens or each * texts
    return Disk(sum(vectors.values()), sum(weights.values()), unbounded)


def refuse_texts(sources: Iterable[Source], shop: Workshop) -> None:
    """Refuse collections that the disk has no room for, before they are read."""
    unread = {s.documents: s.bytes for s in sources if not shop.find(s.documents)}
    refuse(shop.root, COPIES_OF_TEXTS * sum(unread.values()), "texts, tokens and their index take")


def refuse(root: Path, needed: int, what: str) -> None:
    """Raises `UserError` where the disk of `root` has fewer bytes free."""
    free = shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"paths.root={root} has {free / 1e9:,.1f} GB free, and {what} {needed / 1e9:,.1f} GB "
            "at the least: free some, or choose another disk with paths.root=FOLDER."
        )
