"""The axes of a report: the keys that tell its cells apart, which of them is across, and names.

Keys, values and their order come from the cells. Of what the study has, the study's order is kept.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lion_sweep.cell.names import UNSET, differing, short
from lion_sweep.config.schema import AXES
from lion_sweep.report.collect import Asked

MODEL, SEED = "model", "seed"
STUDY = {
    "model": ("1b", "3b", "8b"),
    "paradigm": ("sparse", "dense"),
    "loss": ("cl", "kd", "clkd"),
}


@dataclass(frozen=True)
class Cell:
    """A place in the tables: the three axes, and values of further keys that tell cells apart."""

    model: str
    paradigm: str
    loss: str
    more: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, key: str) -> str:
        return str(getattr(self, key)) if key in AXES else dict(self.more).get(key, UNSET)


@dataclass(frozen=True)
class Axes:
    """How the cells of one table lie: `columns` is the key across, all others make rows."""

    columns: str
    cells: tuple[Cell, ...]
    titles: Mapping[tuple[str, str], str]  # (axis, value): what tables call it
    sizes: Mapping[str, float]  # parameters of a model, where they are known

    @cached_property
    def keys(self) -> list[str]:
        """All of them, the three axes first."""
        return [*AXES, *dict.fromkeys(key for cell in self.cells for key, _ in cell.more)]

    def values(self, key: str) -> list[str]:
        """Those of the cells: numbers ascend, models by size, the study's as in the study."""
        found = sorted({cell[key] for cell in self.cells})
        if key == MODEL and all(value in self.sizes for value in found):
            return sorted(found, key=self.sizes.__getitem__)
        if all(as_number(value) is not None for value in found):
            return sorted(found, key=lambda value: as_number(value) or 0.0)
        known = STUDY.get(key, ())
        return sorted(found, key=lambda value: known.index(value) if value in known else 99)

    def ascend(self, key: str) -> bool:
        """Whether the key's values are in an order that means something: of sizes, or numbers."""
        found = self.values(key)
        if key == MODEL and all(v in self.sizes or v in STUDY[MODEL] for v in found):
            return True
        return all(as_number(value) is not None for value in found)

    @cached_property
    def across(self) -> list[str]:
        """Values of the key across."""
        return self.values(self.columns)

    @cached_property
    def rows(self) -> dict[tuple[str, ...], str]:
        """What tables call each row, by the values of `row_keys`, in their order."""
        order = [self.values(key).index for key in self.row_keys]
        found = {self.row_of(cell) for cell in self.cells}
        rows = sorted(found, key=lambda row: [at(v) for at, v in zip(order, row, strict=True)])
        return {row: self._row_name(row, rows) for row in rows}

    @cached_property
    def row_keys(self) -> list[str]:
        """The keys that make rows."""
        first = [key for key in ("paradigm", "loss", "model") if key != self.columns]
        return [*first, *(key for key in self.keys if key not in (*AXES, self.columns))]

    def row_of(self, cell: Cell) -> tuple[str, ...]:
        """The row that a cell lies in."""
        return tuple(cell[key] for key in self.row_keys)

    def _row_name(self, row: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
        """The first two keys, as a rule paradigm and loss, and what tells it apart from others."""
        told = dict(zip(self.row_keys, row, strict=True))
        near = [other for other in rows if other[:2] == row[:2]]
        words = [self.titles.get((key, told[key]), told[key]) for key in self.row_keys[:2]]
        rest = [
            self.said(key, told[key])
            for place, key in enumerate(self.row_keys[2:], start=2)
            if len({other[place] for other in near}) > 1 and told[key] != UNSET
        ]
        return ", ".join([" ".join(words), *rest])

    def said(self, key: str, value: str) -> str:
        """A value as tables say it: a model's name, rank=4."""
        if key in AXES:
            return self.titles.get((key, value), value)
        return f"{short([*self.keys, key])[key]}={value}"

    def name(self, cell: Cell) -> str:
        """Row and column, as in 'sparse CL+KD 1b'."""
        return f"{self.rows[self.row_of(cell)]} {self.said(self.columns, cell[self.columns])}"

    def line(self, row: tuple[str, ...]) -> list[Cell | None]:
        """The row's cells by column; None where none was asked for."""
        here = self._by_row.get(row, {})
        return [here.get(value) for value in self.across]

    @cached_property
    def _by_row(self) -> dict[tuple[str, ...], dict[str, Cell]]:
        found: dict[tuple[str, ...], dict[str, Cell]] = defaultdict(dict)
        for cell in self.cells:
            found[self.row_of(cell)][cell[self.columns]] = cell
        return found

    @property
    def ordered(self) -> list[Cell]:
        """The cells by row, then by column."""
        return [cell for row in self.rows for cell in self.line(row) if cell]

    def smaller(self, cell: Cell) -> list[Cell]:
        """Cells of the same row with less of what is across, the nearest first; of numbers only."""
        if self.columns != MODEL and any(as_number(value) is None for value in self.across):
            return []
        line = self.line(self.row_of(cell))
        return [other for other in reversed(line[: line.index(cell)]) if other]


def as_number(text: str) -> float | None:
    """The number that a value is; None for anything else."""
    try:
        return float(text)
    except ValueError:
        return None


def telling(asked: Iterable[Asked], wanted: Sequence[str]) -> list[str]:
    """Keys, besides the axes, that tell cells apart: the seed only if it is wanted."""
    told = [cell.settings for cell in asked]
    # A cell whose loss reads no teacher has none, which is no difference between teachers.
    several = {key for key in differing(told) if len({one[key] for one in told if key in one}) > 1}
    found = [key for key in differing(told) if key in several or not key.startswith("teacher.")]
    extra = [key for key in found if key != SEED and key not in wanted]
    return [*(key for key in wanted if key not in AXES), *extra]


def place(asked: Asked, keys: Sequence[str]) -> Cell:
    """Where a cell lies among others that `keys` tell it apart from."""
    more = tuple((key, asked.settings.get(key, UNSET)) for key in keys)
    model, paradigm, loss = (asked.axes[axis] for axis in AXES)
    return Cell(model, paradigm, loss, more)


def full_key(word: str, asked: Sequence[Asked]) -> str:
    """The key that a user means by its last words: of several, the one that cells differ in.

    Raises ValueError where that is not just one.
    """
    known = [*AXES, *dict.fromkeys(key for cell in asked for key in cell.settings)]
    several = differing([cell.settings for cell in asked])
    found = [key for key in known if key == word] or [k for k in known if k.endswith(f".{word}")]
    if len(found) > 1 and len(told := [key for key in found if key in several]) == 1:
        found = told
    if len(found) != 1:
        said = f"is {' and '.join(found)}" if found else "is no key of the configuration"
        raise ValueError(f"'{word}' {said}; cells here differ in {', '.join([*AXES, *several])}")
    return found[0]
