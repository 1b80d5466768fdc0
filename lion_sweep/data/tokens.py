"""The token cache: every text tokenised once, memory-mapped afterwards.

Shapes: N texts, T tokens of all texts together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data import arrays
from lion_sweep.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Tokens:
    """Token ids of N texts, one after the other: text i is ids[start[i]:start[i + 1]]."""

    ids_T: NDArray[np.int32]
    start_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_N) - 1

    def text(self, row: int, length: int) -> NDArray[np.int32]:
        """The first `length` tokens of text `row`."""
        start = self.start_N[row]
        return self.ids_T[start : min(start + length, self.start_N[row + 1])]

    def subset(self, rows: Sequence[int] | NDArray[np.integer]) -> "Tokens":
        """The texts of some rows, in the order of `rows`."""
        texts = [self.ids_T[self.start_N[row] : self.start_N[row + 1]] for row in rows]
        start_N = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
        return Tokens(np.concatenate(texts), start_N.astype(np.int64))

    def lengths(self, length: int) -> NDArray[np.int64]:
        """Tokens of every text when cut at `length`, [N]."""
        return np.minimum(np.diff(self.start_N), length)

    def joined(self, length: int) -> NDArray[np.int32]:
        """The tokens of all texts, cut at `length`, one after the other."""
        if len(self) == 0 or int(np.diff(self.start_N).max()) <= length:
            return self.ids_T
        return np.concatenate([self.text(row, length) for row in range(len(self))])

    def check_within(self, vocabulary: int, source: str) -> None:
        """Refuse ids that have no row in the embedding table of `source`."""
        largest = int(self.ids_T.max(initial=-1))
        if largest >= vocabulary:
            raise UserError(
                f"{source}: its tokenizer makes token {largest}, but its embeddings have only "
                f"{vocabulary} rows: give the backbone the tokenizer that it was trained with."
            )


def write(
    folder: Path, batches: Iterable[list[str]], tokenizer: "PreTrainedTokenizerBase", length: int
) -> int:
    """Tokenise texts, cut at `length` tokens, to `<folder>/*.npy`; returns all tokens."""
    parts, counts = [], [np.zeros(1, dtype=np.int64)]
    for texts in batches:
        # A text of unknown characters only must still be one token long to be pooled.
        found = [
            ids or [tokenizer.pad_token_id or 0]
            for ids in tokenizer(texts, truncation=True, max_length=length)["input_ids"]
        ]
        parts.append(np.fromiter(chain.from_iterable(found), dtype=np.int32))
        counts.append(np.fromiter(map(len, found), dtype=np.int64))
    arrays.save(folder / "ids.npy", np.concatenate(parts))
    arrays.save(folder / "start.npy", np.cumsum(np.concatenate(counts)))
    return sum(map(len, parts))


def read(folder: Path) -> Tokens:
    """The cache that `write` made, memory-mapped."""
    return Tokens(np.load(folder / "ids.npy", mmap_mode="r"), np.load(folder / "start.npy"))
