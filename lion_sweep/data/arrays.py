"""Arrays on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def save(path: Path, array: NDArray[Any]) -> None:
    """Write what `numpy.load` reads. Raises `OSError` that tells a full disk, unlike numpy.save."""
    array = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


def join(paths: Sequence[Path], whole: Path) -> None:
    """Write arrays of one type, one after the other, as one; none is in memory whole."""
    parts = [np.load(path, mmap_mode="r") for path in paths]
    rows, first = sum(map(len, parts)), parts[0]
    header = np.lib.format.header_data_from_array_1_0(first)
    with whole.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (rows, *first.shape[1:])})
        for part in parts:
            file.write(part.data)
