"""The token cache: every text tokenised once, memory-mapped afterwards.

Shapes: N texts, T tokens of all texts together.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
NOTED = "noted.npy"
PROBE = "a"  # a text that has a token


@dataclass(frozen=True)
class Frame:
    """What stands around a text before a decoder reads it."""

    prompt: str = ""
    special: bool = True  # the tokens that its tokenizer puts around a text
    eos: bool = False  # the end-of-sequence token last, where they do not end in it


PLAIN = Frame()


@dataclass(frozen=True)
class Tokens:
    """Token ids of N texts, one after the other: text i is ids[start[i]:start[i + 1]].

    The first `begins` of every text and the last `ends` are what stands around its body, and stay
    there when it is cut. `echo` gives every body twice between them, cut so that both copies fit.
    """

    ids_T: NDArray[np.int32]
    start_N: NDArray[np.int64]
    ends: int = 0
    begins: int = 0
    echo: bool = False

    def __len__(self) -> int:
        return len(self.start_N) - 1

    def text(self, row: int, length: int) -> NDArray[np.int32]:
        """Text `row`, cut at `length` tokens."""
        text = self.ids_T[self.start_N[row] : self.start_N[row + 1]]
        after = len(text) - self.ends
        if self.echo:
            body = text[self.begins : after][: self._twice(length)]
            return np.concatenate([text[: self.begins], body, body, text[after:]])
        if not self.ends or len(text) <= length:
            return text[:length]
        return np.concatenate([text[: max(0, length - self.ends)], text[after:]])

    def _twice(self, length: int) -> int:
        """Tokens of a body, so that two of it fit."""
        return max(0, length - self.begins - self.ends) // 2

    def subset(self, rows: Sequence[int] | NDArray[np.integer]) -> "Tokens":
        """The texts of some rows, in the order of `rows`."""
        texts = [self.ids_T[self.start_N[row] : self.start_N[row + 1]] for row in rows]
        start_N = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
        return replace(self, ids_T=np.concatenate(texts), start_N=start_N.astype(np.int64))

    def lengths(self, length: int) -> NDArray[np.int64]:
        """Tokens of every text when cut at `length`, [N]."""
        length_N = np.diff(self.start_N)
        if not self.echo:
            return np.minimum(length_N, length)
        around = self.begins + self.ends
        return around + 2 * np.minimum(length_N - around, self._twice(length))

    def joined(self, length: int) -> NDArray[np.int32]:
        """The tokens of all texts, cut at `length`, one after the other."""
        if len(self) == 0 or (not self.echo and int(np.diff(self.start_N).max()) <= length):
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

    def check_begin(self, bos: int | None, source: str) -> None:
        """Refuse texts that do not begin as the decoder of `source` says, or not at all."""
        if not self.begins or not len(self):
            return
        found = self.ids_T[self.start_N[0] : self.start_N[0] + self.begins].tolist()
        if found != [bos]:
            raise UserError(
                f"{source}: its tokenizer begins texts with the tokens {found}, and its "
                f"config.json says bos_token_id={bos}, by which the beginning is told from the "
                "rest of a text: correct bos_token_id, or set paradigm.text.special_tokens=false."
            )


def write(
    folder: Path,
    texts: Texts,
    tokenizer: "PreTrainedTokenizerBase",
    length: int,
    frame: Frame = PLAIN,
    on_text: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Tokenise texts in a frame, cut at `length` tokens, to `<folder>/*.npy`; returns all tokens.

    They are written as they come: a killed process is gone on after, as far as its batches have the
    checksums that it noted, and `on_text` hears how many texts of how many are done. Raises
    `UserError` where the tokenizer keeps the end of a long text, not its beginning, or has no
    end-of-sequence token where one is asked for.
    """
    if tokenizer.truncation_side != "right":
        raise UserError(
            f"{tokenizer.name_or_path} cuts texts on the {tokenizer.truncation_side}, and here "
            'their beginnings are read: set "truncation_side": "right" in tokenizer_config.json.'
        )
    ids_T = arrays.Growing(folder / "ids.npy")
    count_N = arrays.Growing(folder / "count.npy")
    noted = arrays.Growing(folder / NOTED)  # written last: what it tells of is there
    for array, whole in zip((ids_T, count_N, noted), _whole(ids_T, count_N, noted), strict=True):
        array.cut(whole)
    for counts, ids in encoded(texts.batches(count_N.length, AT_ONCE), tokenizer, length, frame):
        ids_T.append(ids)
        count_N.append(counts)
        noted.append(_noted(ids, counts))
        on_text(count_N.length, len(texts))
        if interruption.requested():
            raise interruption.stop()
    around = _around(texts.batches(), tokenizer, frame)
    arrays.save(folder / "around.npy", np.array(around))
    for array in (ids_T, count_N, noted):
        array.finish()
    return ids_T.length


def _noted(ids: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Of a batch: tokens, texts, a checksum of both."""
    checksum = zlib.crc32(counts.tobytes(), zlib.crc32(ids.tobytes())) & 0x7FFFFFFF
    return np.array([len(ids), len(counts), checksum], np.int32)


def _whole(
    ids_T: arrays.Growing, count_N: arrays.Growing, noted: arrays.Growing
) -> tuple[int, int, int]:
    """How many entries of each are as they were written, to the end of a batch."""
    ids, counts, told = ids_T.kept(), count_N.kept(), noted.kept()
    tokens, texts, batches = 0, 0, 0
    for batch in told[: len(told) // 3 * 3].reshape(-1, 3):
        own = slice(tokens, tokens + int(batch[0])), slice(texts, texts + int(batch[1]))
        if not np.array_equal(_noted(ids[own[0]], counts[own[1]]), batch):
            break
        tokens, texts, batches = own[0].stop, own[1].stop, batches + 1
    return tokens, texts, 3 * batches


def read(folder: Path, *, echo: bool = False) -> Tokens:
    """The cache that `write` made, memory-mapped."""
    ids_T, count_N = np.load(folder / "ids.npy", mmap_mode="r"), np.load(folder / "count.npy")
    begins, ends = np.load(folder / "around.npy").tolist()
    return Tokens(ids_T, _starts(count_N), ends, begins, echo)


def of(
    texts: list[str],
    tokenizer: "PreTrainedTokenizerBase",
    length: int,
    frame: Frame = PLAIN,
    *,
    echo: bool = False,
) -> Tokens:
    """The same of a few texts, in memory."""
    ((count_N, ids_T),) = encoded([texts], tokenizer, length, frame)
    begins, ends = _around([texts], tokenizer, frame)
    return Tokens(ids_T, _starts(count_N), ends, begins, echo)


def _starts(count_N: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(count_N, dtype=np.int64)])


def encoded(
    batches: Iterable[list[str]],
    tokenizer: "PreTrainedTokenizerBase",
    length: int | None = None,
    frame: Frame = PLAIN,
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """(tokens of each text, all of them one after the other) of every batch, on all cores.

    Texts are cut at `length`, and have one token at least. Raises `UserError` as `write` does.
    """
    last = appended(tokenizer, frame)
    room = None if length is None else max(0, length - len(last))
    cut = {"truncation": room is not None, "max_length": room, "add_special_tokens": frame.special}
    # Also tells the backend of a fast one how to cut, and what else there is to tell.
    tokenizer("", **cut)

    def encode(texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        if frame.prompt:
            texts = [frame.prompt + text for text in texts]
        if tokenizer.is_fast:  # without a dictionary of lists for every text
            batch = tokenizer.backend_tokenizer.encode_batch(
                texts, add_special_tokens=frame.special
            )
            found = [one.ids for one in batch]
        else:
            found = tokenizer(texts, **cut)["input_ids"]
        if last:
            found = [ids + last for ids in found]
        # A text of unknown characters only must still be one token long to be pooled.
        found = [ids or [tokenizer.pad_token_id or 0] for ids in found]
        counts = np.fromiter(map(len, found), dtype=np.int32)
        return counts, np.fromiter(chain.from_iterable(found), dtype=np.int32)

    # One batch is taken apart while the cores are at the next.
    with ThreadPoolExecutor(2 if tokenizer.is_fast else 1) as pool:
        yield from in_order(pool, encode, batches)


def appended(tokenizer: "PreTrainedTokenizerBase", frame: Frame) -> list[int]:
    """The tokens that are put after what the tokenizer makes of a text: its EOS, or none.

    Raises `UserError` where it has no such token.
    """
    if not frame.eos:
        return []
    eos = tokenizer.eos_token_id
    if eos is None:
        raise UserError(
            f"{tokenizer.name_or_path} has no end-of-sequence token to put after every text: set "
            '"eos_token" in its tokenizer_config.json, or paradigm.text.append_eos=false.'
        )
    (_, after), made = special_around(PROBE, tokenizer, frame) or (0, 0), tokenizer(PROBE)
    return [] if after and made["input_ids"][-1] == eos else [int(eos)]


def special_around(
    text: str, tokenizer: "PreTrainedTokenizerBase", frame: Frame
) -> tuple[int, int] | None:
    """How many special tokens it puts before and after a text; None where a text has no others."""
    if not frame.special:
        return 0, 0
    mask = tokenizer(text[:100], return_special_tokens_mask=True)["special_tokens_mask"]
    return (mask.index(0), mask[::-1].index(0)) if 0 in mask else None


def _around(
    batches: Iterable[list[str]], tokenizer: "PreTrainedTokenizerBase", frame: Frame
) -> tuple[int, int]:
    """(`begins`, `ends`) of the texts."""
    made = (
        special_around(frame.prompt + text, tokenizer, frame) for some in batches for text in some
    )
    before, after = next((count for count in made if count is not None), (0, 0))
    return before, after + len(appended(tokenizer, frame))
