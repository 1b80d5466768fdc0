"""A table, and what goes in its places."""

from collections.abc import Sequence
from dataclasses import dataclass, field

HOLE, NOT_APPLICABLE = "—", "n/a"


@dataclass(frozen=True)
class Table:
    """A titled grid of texts; `bold` holds the (row, column) positions of best values."""

    title: str
    header: list[str]
    rows: list[list[str]]
    below: list[str] = field(default_factory=list)
    bold: frozenset[tuple[int, int]] = frozenset()


def show(value: float | None, form: str) -> str:
    """The number in the given format, or the mark of a hole."""
    return HOLE if value is None else format(value, form)


def interval(low: float, high: float, form: str = ".4f") -> str:
    """Both ends in brackets."""
    return f"[{low:{form}}, {high:{form}}]"


def best_of(values: Sequence[Sequence[float | None]], least: int = 1) -> set[tuple[int, int]]:
    """Positions of the best of every column that has `least` numbers; column 0 holds names."""
    found: set[tuple[int, int]] = set()
    for column, of_column in enumerate(zip(*values, strict=True), start=1):
        # Rounded as printed, so that equal-looking numbers are bold together.
        known = {row: round(value, 4) for row, value in enumerate(of_column) if value is not None}
        if len(known) >= least:
            found |= {(row, column) for row in known if known[row] == max(known.values())}
    return found


def folded(table: Table, keep: Sequence[str] = ()) -> Table:
    """The table with every column that says the same in all of several rows as a line below it.

    Not the first, nor those to `keep`. Rows of holes alone have no say.
    """
    known = [row for row in table.rows if set(row[1:]) != {HOLE}]
    if len(known) < 2:
        return table
    columns = list(zip(*known, strict=True))
    stay = {0, *(at for at, name in enumerate(table.header) if name in keep)}
    same = {at for at, texts in enumerate(columns) if at not in stay and len(set(texts)) == 1}
    every = "In every row" if len(known) == len(table.rows) else "In every row with a result"
    said: dict[str, list[str]] = {every: [], "Not known": [], "Not applicable": []}
    for at in sorted(same):
        name, text = table.header[at], columns[at][0]
        if text in (HOLE, NOT_APPLICABLE):
            said["Not known" if text == HOLE else "Not applicable"].append(name)
        else:
            said[every].append(f"{name} {text}")
    kept = [at for at in range(len(table.header)) if at not in same]
    return Table(
        title=table.title,
        header=[table.header[at] for at in kept],
        rows=[[row[at] for at in kept] for row in table.rows],
        below=[*(f"{how}: {'; '.join(told)}." for how, told in said.items() if told), *table.below],
        bold=frozenset((row, kept.index(at)) for row, at in table.bold if at in kept),
    )
