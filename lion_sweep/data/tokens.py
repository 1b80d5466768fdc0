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
    """Token ids of N texts, one after the other: text i is ids[start[i]:start[i + 1]].

    The last `ends` of every text stay at its end when it is cut, as its tokenizer would have it.
    """

    ids_T: NDArray[np.int32]
    start_N: NDArray[np.int64]
    ends: int = 0

    def __len__(self) -> int:
        return len(self.start_N) - 1

    def text(self, row: int, length: int) -> NDArray[np.int32]:
        """Text `row`, cut at `length` tokens."""
        text = self.ids_T[self.start_N[row] : self.start_N[row + 1]]
        if not self.ends or len(text) <= length:
            return text[:length]
        return np.concatenate([text[: max(0, length - self.ends)], text[-self.ends :]])

    def subset(self, rows: Sequence[int] | NDArray[np.integer]) -> "Tokens":
        """The texts of some rows, in the order of `rows`."""
        texts = [self.ids_T[self.start_N[row] : self.start_N[row + 1]] for row in rows]
        start_N = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
        return Tokens(np.concatenate(texts), start_N.astype(np.int64), self.ends)

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
    """Tokenise texts, cut at `length` tokens, to `<folder>/*.npy`; returns all tokens.

    Raises `UserError` where the tokenizer keeps the end of a long text, not its beginning.
    """
    if tokenizer.truncation_side != "right":
        raise UserError(
            f"{tokenizer.name_or_path} cuts texts on the {tokenizer.truncation_side}, and here "
            'their beginnings are read: set "truncation_side": "right" in tokenizer_config.json.'
        )
    parts, counts, ends = [], [np.zeros(1, dtype=np.int64)], None
    for texts in batches:
        after = (_special_after(text, tokenizer) for text in texts if ends is None)
        ends = next((count for count in after if count is not None), ends)
        # A text of unknown characters only must still be one token long to be pooled.
        found = [
            ids or [tokenizer.pad_token_id or 0]
            for ids in tokenizer(texts, truncation=True, max_length=length)["input_ids"]
        ]
        parts.append(np.fromiter(chain.from_iterable(found), dtype=np.int32))
        counts.append(np.fromiter(map(len, found), dtype=np.int64))
    arrays.save(folder / "ids.npy", np.concatenate(parts))
    arrays.save(folder / "start.npy", np.cumsum(np.concatenate(counts)))
    arrays.save(folder / "ends.npy", np.array([ends or 0]))
    return sum(map(len, parts))


def _special_after(text: str, tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """How many special tokens it puts after a text; None where a text has no others."""
    mask = tokenizer(text[:100], return_special_tokens_mask=True)["special_tokens_mask"]
    return mask[::-1].index(0) if 0 in mask else None


def read(folder: Path) -> Tokens:
    """The cache that `write` made, memory-mapped."""
    ids_T, start_N = np.load(folder / "ids.npy", mmap_mode="r"), np.load(folder / "start.npy")
    return Tokens(ids_T, start_N, int(np.load(folder / "ends.npy")[0]))
