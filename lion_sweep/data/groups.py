"""Training groups: a query, its positive, BM25 hard negatives, and the teacher's scores of them.

Shapes: P training pairs, M mined negatives.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MISSING = -1


@dataclass(frozen=True)
class Groups:
    """Rows into the collection, unused places of `negative_PM` -1; the teacher's scores of them."""

    query_P: NDArray[np.int32]
    positive_P: NDArray[np.int32]
    negative_PM: NDArray[np.int32]
    positive_score_P: NDArray[np.float32]
    negative_score_PM: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.query_P)

    def save(self, path: Path) -> None:
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> "Groups":
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})
