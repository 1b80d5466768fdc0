"""Ids in an Arrow array: eight million of them take 130 MB, and no Python string stays.

Shapes: N ids, R asked for.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class Ids(Sequence[str]):
    """N ids in a fixed order; ascending is the order of code points, as that of Python's `str`."""

    def __init__(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> None:
        is_arrow = isinstance(ids, pa.Array | pa.ChunkedArray)
        self.array: Any = ids if is_arrow else pa.array(ids, type=pa.large_string())

    @classmethod
    def of(cls, ids: Sequence[str]) -> "Ids":
        return ids if isinstance(ids, cls) else cls(ids)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, place: Any) -> Any:
        found = self.array[place]
        return self.__class__(found) if isinstance(place, slice) else found.as_py()

    def __iter__(self) -> Iterator[str]:
        chunks = self.array.chunks if isinstance(self.array, pa.ChunkedArray) else [self.array]
        for chunk in chunks:
            yield from chunk.to_pylist()

    @cached_property
    def order_N(self) -> NDArray[np.int64]:
        """The rows, by ascending id."""
        # Arrow compares the bytes of UTF-8, which sort as their code points do.
        return pc.sort_indices(self.array).to_numpy().astype(np.int64)

    @cached_property
    def rank_N(self) -> NDArray[np.uint32]:
        """Where the id of each row stands among all in ascending order."""
        rank_N = np.empty(len(self), dtype=np.uint32)
        rank_N[self.order_N] = np.arange(len(self), dtype=np.uint32)
        return rank_N

    @cached_property
    def ascending(self) -> "Ids":
        return Ids(self.array.take(pa.array(self.order_N)))

    @cached_property
    def repeated(self) -> str | None:
        """The first of the ids that occur more than once."""
        ascending = self.ascending.array
        places = np.flatnonzero(pc.equal(ascending[1:], ascending[:-1]))
        return self.ascending[int(places[0])] if len(places) else None

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Where these ids stand, [R]; -1 where one is not there."""
        asked = Ids.of(ids).array
        if isinstance(asked, pa.ChunkedArray):
            asked = asked.combine_chunks()
        asked = asked.dictionary_encode()
        # Those asked for are hashed: they are fewer than those here as a rule.
        found_N = pc.index_in(self.array, value_set=asked.dictionary)
        there = np.flatnonzero(found_N.is_valid())
        row_D = np.full(len(asked.dictionary), -1, dtype=np.int64)
        row_D[found_N.drop_null().to_numpy()] = there
        return row_D[asked.indices.to_numpy()]
