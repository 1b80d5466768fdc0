"""Words of texts as BM25 counts them: lower-cased, without stop words, stemmed.

Worker processes import this module, so it imports little. Shapes: N texts, V vocabulary, T tokens.
"""

import re
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import Stemmer
from numpy.typing import NDArray
from scipy import sparse

from lion_sweep.files import written

_words = re.compile(r"\b\w\w+\b").findall
# Lucene's English stop words, but for "a", which is no word here.
STOP = frozenset(
    _words(
        "an and are as at be but by for if in into is it no not of on or such that the their "
        "then there these they this to was will with"
    )
)
_stem = Stemmer.Stemmer("english", 0)  # without its own cache


class Numbers(dict[str, int]):
    """The number of each word's stem, in order of their first occurrence; -1 of stop words."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(STOP, -1))
        self.stems: dict[str, int] = {}

    def __missing__(self, word: str) -> int:
        self[word] = number = self.stems.setdefault(_stem.stemWord(word), len(self.stems))
        return number

    def of(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(first token of every text, [N + 1], stems of tokens, [T])."""
        ends, numbers, number_of = [0], array("i"), self.__getitem__
        for text in texts:
            numbers.extend(map(number_of, _words(text.lower())))
            ends.append(len(numbers))
        stem_T = np.frombuffer(numbers, dtype=np.int32)
        known = np.append(0, np.cumsum(stem_T >= 0))
        return known[ends], stem_T[stem_T >= 0]


def count(job: tuple[Path, Sequence[str]]) -> None:
    """Write how often each stem occurs in each of some texts to a file, which appears whole."""
    path, texts = job
    numbers = Numbers()
    start_N, stem_T = numbers.of(texts)
    ones_T = np.ones(len(stem_T), dtype=np.int32)
    counts = sparse.csr_matrix((ones_T, stem_T, start_N), (len(texts), len(numbers.stems)))
    counts.sum_duplicates()
    with written(path, only_writer=True) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            stems=np.frombuffer("\n".join(numbers.stems).encode(), dtype=np.uint8),
            lengths=np.diff(start_N).astype(np.uint32),
            starts=counts.indptr.astype(np.uint32),
            numbers=counts.indices.astype(np.uint32),
            counts=counts.data.astype(np.min_scalar_type(counts.data.max(initial=0))),
        )
