"""The token cache: every text of a collection tokenised once, memory-mapped afterwards.

Shapes: N texts, T tokens of all texts together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 10_000


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


def write(
    folder: Path,
    name: str,
    texts: list[str],
    tokenizer: "PreTrainedTokenizerBase",
    length: int,
) -> int:
    """Tokenise `texts`, cut at `length` tokens, to `<folder>/<name>.*.npy`; returns all tokens."""
    parts, counts = [], []
    for first in range(0, len(texts), BATCH):
        batch = tokenizer(texts[first : first + BATCH], truncation=True, max_length=length)
        for ids in batch["input_ids"]:
            # A text of unknown characters only must still be one token long to be pooled.
            kept = ids or [tokenizer.pad_token_id or 0]
            parts.append(np.asarray(kept, dtype=np.int32))
            counts.append(len(kept))
    np.save(folder / f"{name}.ids.npy", np.concatenate(parts))
    np.save(folder / f"{name}.start.npy", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    return int(sum(counts))


def read(folder: Path, name: str) -> Tokens:
    """The cache that `write` made, memory-mapped."""
    return Tokens(
        np.load(folder / f"{name}.ids.npy", mmap_mode="r"),
        np.load(folder / f"{name}.start.npy"),
    )
