"""The token cache: every text tokenised once, memory-mapped afterwards.

Shapes: N texts, T tokens of all texts together.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data import arrays
from lion_sweep.data.texts import Texts
from lion_sweep.errors import UserError
from lion_sweep.machine import interruption
from lion_sweep.machine.workers import in_order

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AT_ONCE = 2_000  # texts


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
    folder: Path,
    texts: Texts,
    tokenizer: "PreTrainedTokenizerBase",
    length: int,
    prompt: str = "",
    on_text: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Tokenise texts after the prompt, cut at `length` tokens, to `<folder>/*.npy`; returns all
    tokens.

    They are written as they come: a killed process is gone on after, and `on_text` hears how many
    texts of how many are done. Raises `UserError` where the tokenizer keeps the end of a long text,
    not its beginning.
    """
    if tokenizer.truncation_side != "right":
        raise UserError(
            f"{tokenizer.name_or_path} cuts texts on the {tokenizer.truncation_side}, and here "
            'their beginnings are read: set "truncation_side": "right" in tokenizer_config.json.'
        )
    ids_T = arrays.Growing(folder / "ids.npy")
    count_N = arrays.Growing(folder / "count.npy")  # written last: its tokens are there
    before_N = count_N.kept()
    ids_T.cut(int(before_N.sum()))
    count_N.cut(len(before_N))
    prompted = ([prompt + text for text in some] for some in texts.batches(len(before_N), AT_ONCE))
    for counts, ids in encoded(prompted, tokenizer, length):
        ids_T.append(ids)
        count_N.append(counts)
        on_text(count_N.length, len(texts))
        if interruption.requested():
            raise interruption.stop()
    after = (_special_after(prompt + text, tokenizer) for some in texts.batches() for text in some)
    ends = next((count for count in after if count is not None), 0)
    arrays.save(folder / "ends.npy", np.array([ends]))
    ids_T.finish()
    count_N.finish()
    return ids_T.length


def encoded(
    batches: Iterable[list[str]], tokenizer: "PreTrainedTokenizerBase", length: int | None = None
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """(tokens of each text, all of them one after the other) of every batch, on all cores.

    Texts are cut at `length`, and have one token at least.
    """
    # Also tells the backend of a fast one how to cut, and what else there is to tell.
    tokenizer("", truncation=length is not None, max_length=length)

    def encode(texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        if tokenizer.is_fast:  # without a dictionary of lists for every text
            found = [one.ids for one in tokenizer.backend_tokenizer.encode_batch(texts)]
        else:
            cut = {"truncation": length is not None, "max_length": length}
            found = tokenizer(texts, **cut)["input_ids"]
        # A text of unknown characters only must still be one token long to be pooled.
        found = [ids or [tokenizer.pad_token_id or 0] for ids in found]
        counts = np.fromiter(map(len, found), dtype=np.int32)
        return counts, np.fromiter(chain.from_iterable(found), dtype=np.int32)

    # One batch is taken apart while the cores are at the next.
    with ThreadPoolExecutor(2 if tokenizer.is_fast else 1) as pool:
        yield from in_order(pool, encode, batches)


def _special_after(text: str, tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """How many special tokens it puts after a text; None where a text has no others."""
    mask = tokenizer(text[:100], return_special_tokens_mask=True)["special_tokens_mask"]
    return mask[::-1].index(0) if 0 in mask else None


def read(folder: Path) -> Tokens:
    """The cache that `write` made, memory-mapped."""
    ids_T, count_N = np.load(folder / "ids.npy", mmap_mode="r"), np.load(folder / "count.npy")
    start_N = np.concatenate([[0], np.cumsum(count_N, dtype=np.int64)])
    return Tokens(ids_T, start_N, int(np.load(folder / "ends.npy")[0]))
