"""Training groups: a query, its positive, BM25 hard negatives, and the teacher's scores of them.

Shapes: P training pairs, M mined negatives.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data import arrays

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

    def save(self, folder: Path) -> None:
        """Write a file for each array to a folder of their own."""
        _emptied(folder)
        for name, array in self.__dict__.items():
            arrays.save(folder / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> "Groups":
        """Memory-mapped."""
        paths = {entry.name: folder / f"{entry.name}.npy" for entry in fields(cls)}
        return cls(**{name: np.load(path, mmap_mode="r") for name, path in paths.items()})


def join(parts: Sequence[Path], folder: Path) -> None:
    """Those of some folders, one after the other, in a folder of their own."""
    _emptied(folder)
    for entry in fields(Groups):
        name = f"{entry.name}.npy"
        arrays.join([part / name for part in parts], folder / name)


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # a killed process has left it
    folder.mkdir(parents=True)
