"""The token cache: every text tokenised once for all that read it.

A cache is cut at the longest that anybody asks for; what reads it is known by the length that it
reads itself (`Cut`), so that a longer cache changes nothing.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data import tokens
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.texts import Texts
from lion_sweep.data.tokens import Tokens
from lion_sweep.errors import UserError
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.workshop import Workshop


@dataclass(frozen=True, eq=False)
class Tokenise(Stage):
    """Tokens of texts, cut at `length`."""

    kind = "tokens"

    texts: Texts
    tokenizer: Pretrained
    length: int
    title: str = beside()

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Their number."""
        tokenizer = self.tokenizer.load_tokenizer()
        return {"tokens": tokens.write(folder, self.texts.batches(), tokenizer, self.length)}

    def cut(self, length: int) -> "Cut":
        """These tokens to somebody who reads `length` of each text at most."""
        assert length <= self.length
        return Cut(self, length)


@dataclass(frozen=True)
class Cut:
    """The first `length` tokens of every text."""

    cache: Tokenise
    length: int

    @property
    def identity(self) -> dict[str, Any]:
        """As that of a cache that is cut there."""
        return replace(self.cache, length=self.length).specification

    def read(self, shop: Workshop) -> Tokens:
        """The cache, memory-mapped; its texts may be longer than `length`.

        Raises `UserError` where it is not the texts' any more.
        """
        folder = shop.folder(self.cache)
        found = tokens.read(folder)
        if len(found) != len(self.cache.texts):
            raise UserError(
                f"{folder} holds the tokens of {len(found)} texts, but there are "
                f"{len(self.cache.texts)}: delete the folder."
            )
        return found

    def lengths(self, shop: Workshop) -> NDArray[np.int64]:
        """Tokens of every text, [N]."""
        return self.read(shop).lengths(self.length)
