"""Some texts of a large file, without reading the others."""

from itertools import chain, islice
from pathlib import Path

import numpy as np

from lion_sweep.data import forms
from lion_sweep.data.forms import Line, Text

TAIL_BYTES = 1 << 20  # what a file has to be longer than, so that a place can be drawn in it


def sample(path: Path, form: str, spots: int, each: int) -> tuple[list[Text], int]:
    """Texts at so many places of a .jsonl or .tsv file, and about how many it has in all.

    They are always the same ones. Raises `UserError` for one that cannot be read.
    """
    lines, total = _lines(path, spots, each)
    with path.open("rb") as file:
        first = list(islice(forms.decoded(file, str(path)), 1))  # may name the columns
    return list(forms.texts(form, chain(first, lines))), total


def about(path: Path) -> int:
    """How many lines a file has, by some of them."""
    return _lines(path, 1000, 1)[1]


def _lines(path: Path, spots: int, each: int) -> tuple[list[Line], int]:
    """`each` lines at so many places, or all; about how many there are."""
    size, lines, read, count = path.stat().st_size, list[Line](), 0, 0
    with path.open("rb") as file:
        if size <= TAIL_BYTES:
            lines = list(forms.decoded(file, str(path)))
            return lines, len(lines)
        places = np.random.default_rng(0).integers(size - TAIL_BYTES, size=spots)
        for place in np.sort(places).tolist():
            file.seek(place)
            file.readline()  # the rest of one: a longer one is hit more often
            raws = list(islice(file, each))
            read, count = read + sum(map(len, raws)), count + len(raws)
            where = f"{path}, after byte {place}"
            lines += [(at.rpartition(":")[0], line) for at, line in forms.decoded(raws, where)]
    return lines, round(size * count / read)
