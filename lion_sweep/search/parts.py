"""Vectors of a collection in parts on disk: written once, as they come, and read block by block.

A part is an uncompressed .npz of some rows in ascending order: whatever block of consecutive rows
is asked for, every part has its share in one stretch. So nobody ever holds, or copies, the whole.
Of texts with differing numbers of vectors, these lie one after the other, without padding.

Shapes: N rows, M rows of a part or a block, D dimensions, V vocabulary, E entries.
"""

import os
import shutil
import struct
import time
import zipfile
from collections.abc import Iterator
from dataclasses import astuple
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lion_sweep.cost.meter import Spending
from lion_sweep.data.ragged import Ragged
from lion_sweep.files import written

BLOCK = 2**15  # rows read at once
KEEP_SECONDS, KEEP_BYTES = 30, 2**27  # a part takes no longer, and not much more
_CSR = "data", "indices", "indptr"


class Parts:
    """The writer's side: vectors of some rows each, in files that appear whole.

    Of those that are there, damaged ones are made again.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self.done_N = folder, np.zeros(rows, dtype=bool)
        for path in folder.glob("*.npz"):
            if _whole(path):
                self.done_N[_Part(path).read("rows")] = True
            else:
                path.unlink(missing_ok=True)
        self._clear()

    def _clear(self) -> None:
        self._rows: list[NDArray[np.int64]] = []
        self._vectors: list[Any] = []
        self._spent, self._bytes, self._begun = Spending(), 0, time.monotonic()

    def add(self, rows_M: NDArray[np.int64], vectors: Any, spent: Spending) -> None:
        """Vectors, [M, ...], CSR or `Ragged`, of rows that nobody else adds, in any order."""
        self._rows.append(rows_M)
        self._vectors.append(vectors)
        self._spent += spent
        is_sparse = sparse.issparse(vectors)
        self._bytes += (
            sum(getattr(vectors, n).nbytes for n in _CSR) if is_sparse else vectors.nbytes
        )

    @property
    def full(self) -> bool:
        """Whether it is time to keep what was added."""
        return time.monotonic() - self._begun >= KEEP_SECONDS or self._bytes >= KEEP_BYTES

    def keep(self) -> None:
        """Write what was added since."""
        if self._rows:
            rows = np.concatenate(self._rows)
            order = np.argsort(rows)
            spent = np.array(astuple(self._spent), dtype=np.int64)
            parts: dict[str, NDArray[Any]] = {"rows": rows[order], "spent": spent}
            if sparse.issparse(self._vectors[0]):
                stacked = sparse.vstack(self._vectors, format="csr")[order]
                parts |= {name: getattr(stacked, name) for name in _CSR}
                parts["terms"] = np.array(stacked.shape[1:])
            elif isinstance(self._vectors[0], Ragged):
                joined = Ragged.joined(self._vectors)[order]
                parts |= {"vectors": joined.vectors_TP, "starts": joined.start_M}
            else:
                parts["vectors"] = np.concatenate(self._vectors)[order]
            # No two parts begin with the same row.
            name = self._folder / f"{parts['rows'][0]}.npz"
            with written(name) as temporary, temporary.open("wb") as file:
                np.savez(file, **parts)  # type: ignore[arg-type]
        self._clear()


def take(source: Path, target: Path) -> None:
    """Have the parts of another folder in `target` too, without a copy where links are possible."""
    target.mkdir(parents=True, exist_ok=True)
    for part in source.glob("*.npz"):
        try:
            os.link(part, target / part.name)
        except OSError:
            with written(target / part.name) as temporary:
                shutil.copyfile(part, temporary)


def _whole(path: Path) -> bool:
    """Whether a part that a killed process has left is as it was written, by its checksums."""
    try:
        with zipfile.ZipFile(path) as members:
            return members.testzip() is None
    except Exception:  # the library has one of its own for each way of being damaged
        return False


class _Part:
    """Arrays of an .npz, of which stretches of rows are read and no more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]] = {}
        with path.open("rb") as file, zipfile.ZipFile(file) as members:
            for member in members.infolist():
                file.seek(member.header_offset + 26)  # of two lengths: of the name, of what follows
                file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                self.arrays[member.filename.removesuffix(".npy")] = file.tell(), shape, dtype

    def read(self, name: str) -> NDArray[Any]:
        """A whole array."""
        with self.path.open("rb") as file:
            return self._stretch(file, name, 0, self.arrays[name][1][0])

    def vectors(self, first: int, last: int) -> Any:
        """The vectors of its rows from `first` on, up to `last`: an array, CSR or `Ragged`."""
        with self.path.open("rb") as file:
            if "starts" in self.arrays:
                starts = self._stretch(file, "starts", first, last + 1)
                vectors = self._stretch(file, "vectors", *starts[[0, -1]].tolist())
                return Ragged(vectors, starts - starts[0])
            if "vectors" in self.arrays:
                return self._stretch(file, "vectors", first, last)
            starts = self._stretch(file, "indptr", first, last + 1)
            ends = starts[[0, -1]].tolist()
            data, indices = (self._stretch(file, name, *ends) for name in ("data", "indices"))
            shape = last - first, int(self._stretch(file, "terms", 0, 1)[0])
            return sparse.csr_matrix((data, indices, starts - starts[0]), shape)

    def _stretch(self, file: BinaryIO, name: str, first: int, last: int) -> NDArray[Any]:
        offset, shape, dtype = self.arrays[name]
        found = np.empty((last - first, *shape[1:]), dtype)
        file.seek(offset + first * int(np.prod(shape[1:])) * dtype.itemsize)
        if file.readinto(found.reshape(-1).view(np.uint8)) != found.nbytes:  # type: ignore[attr-defined]
            raise ValueError(f"{self.path} ends too early")
        return found


class Stored:
    """The reader's side: all vectors of a folder, in the order of rows, a block at a time.

    Raises `ValueError` where not all `texts` are there (None: all up to the last that is), or one
    is twice.
    """

    def __init__(self, folder: Path, texts: int | None = None) -> None:
        self._parts = [_Part(path) for path in sorted(folder.glob("*.npz"))]
        self._rows = [part.read("rows") for part in self._parts]
        last = max((int(rows_M[-1]) for rows_M in self._rows), default=-1)
        count, expected = sum(map(len, self._rows)), last + 1 if texts is None else texts
        there_N = np.zeros(last + 1, dtype=bool)
        for rows_M in self._rows:
            there_N[rows_M] = True
        if not count or not there_N.sum() == count == expected == last + 1:
            raise ValueError(f"{count} of {expected} texts are encoded in {folder}")
        first, arrays = self._parts[0].vectors(0, 1), self._parts[0].arrays
        kinds: dict[str, Literal["sparse", "multi"]] = {"terms": "sparse", "starts": "multi"}
        found = (kind for name, kind in kinds.items() if name in arrays)
        self.kind: Literal["dense", "sparse", "multi"] = next(found, "dense")
        self.shape, self.dtype = (count, *first.shape[1:]), first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nnz(self) -> int:
        """Numbers stored; of sparse vectors their entries."""
        stored = "data" if self.kind == "sparse" else "vectors"
        return sum(int(np.prod(part.arrays[stored][1])) for part in self._parts)

    @property
    def spent(self) -> Spending:
        """What they cost."""
        costs = (Spending(*part.read("spent").tolist()) for part in self._parts)
        return sum(costs, Spending())

    @cached_property
    def count_M(self) -> NDArray[np.int64]:
        """How many vectors every text has, where they differ in that."""
        count_N = np.empty(len(self), np.int64)
        for part, rows_M in zip(self._parts, self._rows, strict=True):
            count_N[rows_M] = np.diff(part.read("starts"))
        return count_N

    @cached_property
    def terms_V(self) -> NDArray[np.int64]:
        """[V], how many sparse vectors have each term."""
        found_V = np.zeros(self.shape[1], np.int64)
        for _, block in self.blocks():
            found_V += block.getnnz(axis=0)
        return found_V

    def rows(self, start: int, stop: int) -> Any:
        """Rows from `start` on, up to `stop`: an array, [M, *X], CSR, [M, V], or `Ragged`."""
        places, stretches = [], []
        stop = min(stop, len(self))
        found_M = np.empty(
            (stop - start, *self.shape[1:]) if self.kind == "dense" else 0, self.dtype
        )
        for part, rows_M in zip(self._parts, self._rows, strict=True):
            first, last = np.searchsorted(rows_M, (start, stop)).tolist()
            if first == last:
                continue
            vectors = part.vectors(first, last)
            if self.kind == "dense":
                found_M[rows_M[first:last] - start] = vectors
            else:
                places.append(rows_M[first:last])
                stretches.append(vectors)
        if self.kind == "dense":
            return found_M
        order = np.argsort(np.concatenate(places))
        if self.kind == "multi":
            return Ragged.joined(stretches)[order]
        return sparse.vstack(stretches, format="csr")[order]

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, Any]]:
        """(first row, its block of `size` rows, fewer at the end), in order."""
        for start in range(0, len(self), size):
            yield start, self.rows(start, start + size)

    def all(self) -> Any:
        """All in memory, for who must have it so."""
        return self.rows(0, len(self))
