"""Arrays on disk."""

import os
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


class Growing:
    """An int32 array on disk that grows at its end; `finish` makes `numpy.load` read it.

    What was appended outlives the process.
    """

    HEADER = 128  # bytes, whatever the length

    def __init__(self, path: Path) -> None:
        path.touch()
        self.file = path.open("r+b")
        self.file.truncate(max(self.HEADER, self.file.seek(0, 2)))

    def kept(self) -> NDArray[np.int32]:
        """What an earlier process appended, mapped, without an entry that it died in."""
        entries = (os.fstat(self.file.fileno()).st_size - self.HEADER) // 4
        if not entries:
            return np.empty(0, np.int32)
        return np.memmap(self.file, np.int32, "r", self.HEADER, (entries,))

    def cut(self, length: int) -> None:
        """Go on after that many entries."""
        self.length = length
        self.file.truncate(self.HEADER + 4 * length)
        self.file.seek(0, 2)

    def append(self, array: NDArray[np.int32]) -> None:
        self.file.write(array.data)
        self.file.flush()
        self.length += len(array)

    def finish(self) -> None:
        """Say in the header what it holds."""
        described = {"descr": "<i4", "fortran_order": False, "shape": (self.length,)}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, described)
        assert self.file.tell() == self.HEADER
        self.file.close()
