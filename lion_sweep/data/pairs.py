"""A query and a passage as one text: how a tokenizer joins them, and what of them is read.

The query is read whole; the passage is cut where both would be longer than what is read at once.
Shapes: T tokens of a text, C pairs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANY = "a"  # a text of one token or more

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Part:
    """Special tokens ahead of a text, with their types, and the type of the text's own tokens."""

    ids: Ids
    types: Ids
    of_text: int = 0


@dataclass(frozen=True)
class Joint:
    """What stands before, between and after a query and a passage.

    `typed` is whether their model is told the types, `starts` and `ends` how many special tokens a
    text alone begins and ends with.
    """

    query: Part
    passage: Part
    after: Part
    typed: bool
    starts: int
    ends: int

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "Joint":
        """As the tokenizer joins two texts."""
        alone = tokenizer(ANY, return_special_tokens_mask=True)["special_tokens_mask"]
        starts, ends = alone.index(0), alone[::-1].index(0)
        pair = tokenizer(ANY, ANY, return_special_tokens_mask=True)
        own = [place for place, special in enumerate(pair["special_tokens_mask"]) if not special]
        ids = np.array(pair["input_ids"], dtype=np.int32)
        types = np.array(pair.get("token_type_ids", np.zeros_like(ids)), dtype=np.int32)
        query, query_end = own[0], own[0] + len(own) // 2
        passage, passage_end = own[len(own) // 2], own[-1] + 1
        return cls(
            Part(ids[:query], types[:query], int(types[query])),
            Part(ids[query_end:passage], types[query_end:passage], int(types[passage])),
            Part(ids[passage_end:], types[passage_end:]),
            "token_type_ids" in pair,
            starts,
            ends,
        )

    def asked(self, query_C: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of pairs without their passages, of those of each query alone."""
        specials = sum(len(part.ids) for part in (self.query, self.passage, self.after))
        return query_C - self.starts - self.ends + specials

    def lengths(
        self, query_C: NDArray[np.int64], passage_C: NDArray[np.int64], length: int
    ) -> NDArray[np.int64]:
        """Tokens of pairs, at most `length`, of those of each text alone."""
        asked_C = self.asked(query_C)
        return asked_C + np.minimum(passage_C - self.starts - self.ends, length - asked_C)

    def join(self, query_T: Ids, passage_T: Ids, length: int) -> tuple[Ids, Ids]:
        """(ids, types) of a pair of `length` tokens, of the tokens of each text alone."""
        query, passage = (
            text[self.starts : len(text) - self.ends] for text in (query_T, passage_T)
        )
        passage = passage[: length - int(self.asked(np.array(len(query_T))))]
        ids, types = list[Ids](), list[Ids]()
        for part, text in ((self.query, query), (self.passage, passage)):
            ids += [part.ids, text]
            types += [part.types, np.full(len(text), part.of_text, np.int32)]
        return np.concatenate([*ids, self.after.ids]), np.concatenate([*types, self.after.types])
