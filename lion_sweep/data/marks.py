"""What is done to the tokens of a text for an encoder that has a vector per token.

ColBERT puts a marker at the beginning of queries and another one of passages, fills queries up with
mask tokens, whose vectors take part and which no token sees, and leaves the vectors of passages'
punctuation out (Khattab and Zaharia, SIGIR 2020). What an encoder has to know of a token stands in
bits beside its id.

Shapes: N texts, L tokens of a text.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config.paradigm import TokensOf
from lion_sweep.data.tokens import Tokens
from lion_sweep.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SILENT = 1 << 29  # its vector is left out
UNSEEN = 1 << 30  # no token sees it
ID = SILENT - 1  # the bits of the id


@dataclass(frozen=True)
class Marking:
    """What is done to queries, or to passages; nothing where nothing is said."""

    marker: str | None = None  # a token of the vocabulary put before the text, after any BOS
    fill: bool = False  # up to the length that texts are cut at, with mask tokens
    skip_punctuation: bool = False  # leave the vectors of tokens of punctuation alone out

    @classmethod
    def of(cls, tokens: TokensOf) -> dict[str, "Marking"]:
        """That of `queries` and of `passages`."""
        passages = cls(tokens.passage_marker, skip_punctuation=tokens.skip_punctuation)
        return {"queries": cls(tokens.query_marker, tokens.fill_queries), "passages": passages}

    def __bool__(self) -> bool:
        return self != Marking()

    @property
    def room(self) -> int:
        """Tokens that it adds to a text at least."""
        return int(self.marker is not None)

    def lengths(self, unmarked: Tokens, length: int) -> NDArray[np.int64]:
        """Tokens of every text, [N], marks among them, when cut at `length`."""
        length_N = unmarked.lengths(length - self.room)
        return np.full_like(length_N, length) if self.fill else length_N + self.room


@dataclass(frozen=True)
class Marks:
    """The same by a tokenizer's ids."""

    marking: Marking
    marker: int | None
    fill: int | None
    silent: NDArray[np.int32]  # ids

    def on(self, text_L: NDArray[np.int32], length: int, begins: int) -> NDArray[np.int32]:
        """A text that is cut at `length - room`, with marks: `length` tokens at most.

        The marker stands after the `begins` tokens that a text begins with, such as BOS.
        """
        if len(self.silent):
            text_L = np.where(np.isin(text_L, self.silent), text_L | SILENT, text_L)
        if self.marker is not None:
            text_L = np.insert(text_L, begins, self.marker)
        if self.fill is not None:
            filling_L = np.full(length - len(text_L), self.fill | UNSEEN, dtype=np.int32)
            text_L = np.concatenate([text_L, filling_L])
        return text_L


@dataclass(frozen=True)
class MarkedTokens(Tokens):
    """Tokens whose texts have marks on them when they are read."""

    marks: Marks = field(kw_only=True)

    @classmethod
    def of(cls, tokens: Tokens, marks: Marks) -> "MarkedTokens":
        """The same texts with marks."""
        return cls(*(getattr(tokens, entry.name) for entry in fields(Tokens)), marks=marks)

    def text(self, row: int, length: int) -> NDArray[np.int32]:
        """Text `row`, with marks, cut at `length` tokens."""
        text_L = super().text(row, length - self.marks.marking.room)
        return self.marks.on(text_L, length, self.begins)

    def lengths(self, length: int) -> NDArray[np.int64]:
        """Tokens of every text when cut at `length`, [N]."""
        unmarked = Tokens(*(getattr(self, entry.name) for entry in fields(Tokens)))
        return self.marks.marking.lengths(unmarked, length)

    def subset(self, rows: Sequence[int] | NDArray[np.integer]) -> "MarkedTokens":
        """The texts of some rows, in the order of `rows`."""
        return MarkedTokens.of(super().subset(rows), self.marks)

    def check_within(self, vocabulary: int, source: str) -> None:
        """Refuse ids that have no row in the embedding table of `source`, marks among them."""
        super().check_within(vocabulary, source)
        added = [one for one in (self.marks.marker, self.marks.fill) if one is not None]
        Tokens(np.array(added, np.int32), self.start_N).check_within(vocabulary, source)


def marks_of(marking: Marking, tokenizer: "PreTrainedTokenizerBase") -> Marks:
    """Raises `UserError` where the tokenizer lacks a token that is asked for."""
    known, marker = tokenizer.get_vocab(), marking.marker
    if marker is not None and marker not in known:
        raise UserError(
            f"The marker {marker!r} is no token of {tokenizer.name_or_path}: name one of its "
            "vocabulary (paradigm.tokens.query_marker, paradigm.tokens.passage_marker), or null."
        )
    return Marks(
        marking,
        None if marker is None else int(known[marker]),
        mask_token(tokenizer) if marking.fill else None,
        _punctuation(tokenizer) if marking.skip_punctuation else np.zeros(0, np.int32),
    )


@lru_cache(maxsize=4)
def _punctuation(tokenizer: "PreTrainedTokenizerBase") -> NDArray[np.int32]:
    """Ids of the tokens that are ASCII punctuation and spaces alone, ascending."""
    special, marks = set(tokenizer.all_special_ids), set(string.punctuation)
    ids = sorted(set(tokenizer.get_vocab().values()) - special)
    texts = tokenizer.batch_decode([[token] for token in ids])
    found = [
        token
        for token, text in zip(ids, texts, strict=True)
        if (signs := text.strip().removeprefix("##")) and set(signs) <= marks
    ]
    return np.array(found, dtype=np.int32)


def mask_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The mask token, or `_` where a decoder has none (the study's choice)."""
    if tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    ids = tokenizer.encode("_", add_special_tokens=False)
    if len(ids) != 1:
        raise UserError("The backbone's tokenizer has no mask token, and `_` is not one token.")
    return int(ids[0])
