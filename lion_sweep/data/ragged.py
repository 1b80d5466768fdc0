"""Vectors of texts that differ in how many they have, one text after the other, without padding.

Shapes: M texts, T vectors of all of them, J of the text with most, P dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ragged:
    """Text i has the vectors from `start_M[i]` on, up to `start_M[i + 1]`; perhaps none."""

    vectors_TP: NDArray[np.floating[Any]]
    start_M: NDArray[np.int64]  # one more than there are texts

    @classmethod
    def of(
        cls, vectors_TP: NDArray[np.floating[Any]], count_M: NDArray[np.integer[Any]]
    ) -> "Ragged":
        """By how many each text has."""
        return cls(vectors_TP, np.concatenate([[0], np.cumsum(count_M, dtype=np.int64)]))

    @classmethod
    def joined(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """The texts of some parts, one part after the other."""
        counts = np.concatenate([part.count_M for part in parts])
        return cls.of(np.concatenate([part.vectors_TP for part in parts]), counts)

    def __len__(self) -> int:
        return len(self.start_M) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """[M, P], whatever a text has."""
        return len(self), self.vectors_TP.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a number."""
        return self.vectors_TP.dtype

    @property
    def nbytes(self) -> int:
        """Of all of it."""
        return self.vectors_TP.nbytes + self.start_M.nbytes

    @property
    def count_M(self) -> NDArray[np.int64]:
        """Vectors of each text."""
        return np.diff(self.start_M)

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]]) -> "Ragged":
        """The texts of some rows, in the order of `rows`."""
        first_R, count_R = self.start_M[:-1][rows], self.count_M[rows]
        start_R = np.concatenate([[0], np.cumsum(count_R)])
        place_T = np.arange(start_R[-1]) + np.repeat(first_R - start_R[:-1], count_R)
        return Ragged(self.vectors_TP[place_T], start_R)

    def padded(self) -> NDArray[np.floating[Any]]:
        """[M, J, P], with vectors of zeros after the last of a text."""
        count_M = self.count_M
        there_MJ = np.arange(count_M.max(initial=0)) < count_M[:, None]
        found_MJP = np.zeros((*there_MJ.shape, self.shape[1]), self.dtype)
        found_MJP[there_MJ] = self.vectors_TP
        return found_MJP
