"""Some texts of a large file, without reading the others."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO

import numpy as np

from lion_sweep.data import forms
from lion_sweep.data.forms import Text

SMALL_BYTES = 1 << 20  # files that are read whole


def sample(path: Path, form: str, spots: int, each: int) -> tuple[list[Text], int]:
    """Texts at so many places of a .jsonl or .tsv file, or all, and about how many it has.

    They are always the same ones. Raises `UserError` for one that cannot be read.
    """
    parts, total = _parts(path, spots, each)
    with path.open("rb") as file:
        first = next((line for _, line in forms.decoded(file, str(path))), None)
    blocks = (
        forms.Block(form, f"{path}, after byte {place}" if place else str(path), raw, *begins)
        for place, raw in parts
        for begins in [(1, first) if place else (0, None)]
    )
    return list(chain.from_iterable(blocks)), total


def about(path: Path) -> int:
    """How many lines a file has, by some of them."""
    return _parts(path, 1000, 1)[1]


def _parts(path: Path, spots: int, each: int) -> tuple[list[tuple[int, bytes]], int]:
    """`each` lines at so many places, or all from its beginning; about how many there are."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= SMALL_BYTES:
            whole = file.read()
            return [(0, whole)], whole.count(b"\n") + (not whole.endswith(b"\n"))
        parts = list(_at_places(file, size, spots, each))
    # Where lines are long there are few of them, and as many places as elsewhere.
    dense = np.array([raw.count(b"\n") / len(raw) for _, raw in parts])
    drawn = np.random.default_rng(1).choice(len(parts), spots, p=dense / dense.sum())
    return [parts[place] for place in np.sort(drawn)], round(size * dense.mean())


def _at_places(file: IO[bytes], until: int, spots: int, each: int) -> Iterator[tuple[int, bytes]]:
    for place in np.sort(np.random.default_rng(0).integers(1, until, size=spots)).tolist():
        file.seek(place)
        file.readline()  # the rest of one: a longer one is hit more often
        if raw := b"".join(islice(file, each)):
            yield place, raw
