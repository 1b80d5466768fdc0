"""Arrange the results of a sweep into the sections of a report: one per ladder and collection."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lion_sweep.config.schema import AXES
from lion_sweep.report.axes import MODEL, Axes, Cell, grid, place, telling
from lion_sweep.report.axes import number as as_number
from lion_sweep.report.collect import Asked, CellResult, number
from lion_sweep.report.significance import Comparison, Pair, compare

USUAL = "nDCG@10"  # the main measure of cells none of which has a result
AGREEMENT = ("agreement_10", "agreement")


@dataclass(frozen=True)
class Score:
    """Mean of a measure over `n` seeds and its sample standard deviation (None for one seed)."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Section:
    """Cells of one ladder on one collection, with one result per cell and seed; none for holes."""

    ladder: str
    collection: str
    name: str  # the collection, and what else tells the section apart
    axes: Axes
    results: dict[Cell, list[CellResult]]
    notes: list[str]
    comparison: Comparison

    @property
    def shown(self) -> list[CellResult]:
        """Every result of the section, in the order of its cells, then by seed."""
        return [result for results in self.results.values() for result in results]

    @property
    def measures(self) -> list[str]:
        """Every measure that a result has here, as cells name them."""
        found = dict.fromkeys(m for result in self.shown for m in result.scores[self.collection])
        return list(found) or [USUAL]

    @property
    def main(self) -> str:
        """The measure that is compared and tested: the first that cells are scored with."""
        return self.measures[0]

    @property
    def groups(self) -> set[str]:
        """Names of the groups of collections that this one is averaged with."""
        told = [result.collections.get(self.collection) for result in self.shown]
        found = {entry.get("group") for entry in told if isinstance(entry, dict)}
        return {str(group) for group in found if group}

    def shares(self) -> Counter[tuple[str, str]]:
        """How many results read each (stage, folder)."""
        return Counter(
            (stage, result.stage_folder(stage)) for result in self.shown for stage in result.ledger
        )

    def score(self, cell: Cell, measure: str) -> Score | None:
        """The measure (0 to 1) of a cell over its seeds; None for a hole."""
        found = [number(r.scores, self.collection, measure) for r in self.results.get(cell, [])]
        values = [value for value in found if value is not None]
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else None
        return Score(statistics.fmean(values), std, len(values))

    def line(self, row: tuple[str, ...]) -> list[Cell | None]:
        """The row's cells by column; None where none was asked for."""
        here = {c[self.axes.columns]: c for c in self.results if self.axes.row_of(c) == row}
        return [here.get(value) for value in self.axes.across]

    def step(self, cell: Cell) -> Pair | None:
        """The cell less the nearest one before it in its row that was compared, if there is one."""
        pairs = self.comparison.of(cell)
        known = (pairs[other] for other in self.axes.smaller(cell) if other in pairs)
        return next(known, None)

    def bm25(self, measure: str) -> float | None:
        """The BM25 baseline (0 to 1) as the newest result has it; None where none has it."""
        newest_first = sorted(self.shown, key=lambda r: r.modified, reverse=True)
        found = (number(r.bm25, self.collection, measure) for r in newest_first)
        return next((value for value in found if value is not None), None)

    def holes(self, measure: str) -> list[Cell]:
        """Asked-for cells without a number for the measure."""
        return [cell for cell in self.results if self.score(cell, measure) is None]


@dataclass(frozen=True)
class Wanted:
    """What a user asks of a report; keys are those of the configuration."""

    grid: Mapping[str, Sequence[str]] = field(default_factory=dict)  # all combinations: the cells
    columns: str | None = None  # across; None: sizes, or what there are several of
    tables: Sequence[str] = ()  # a table for each of their values

    @property
    def keys(self) -> list[str]:
        """All keys that it names."""
        return list(dict.fromkeys([*self.grid, *self.tables, *filter(None, [self.columns])]))


def sections(
    results: Iterable[CellResult], begun: Iterable[Asked] = (), wanted: Wanted | None = None
) -> list[Section]:
    """One section per ladder, collection (by content) and value of the keys of `wanted.tables`.

    Its cells are those with results, those that were begun, and all of `wanted.grid`, which shuts
    others out. Raises ValueError for a key across that has one value.
    """
    wanted, begun = wanted or Wanted(), list(begun)
    by_key: dict[tuple[str, str, str], list[CellResult]] = {}
    for result in sorted(results, key=lambda r: (r.modified, r.id)):
        for name in result.scores:
            by_key.setdefault((result.ladder, name, result.checksum(name) or ""), []).append(result)
    built = []
    for (ladder, collection, checksum), here in sorted(by_key.items()):
        several = sum(key[:2] == (ladder, collection) for key in by_key) > 1
        name = f"{collection} ({checksum[:8]})" if several else collection
        asked = [cell for cell in begun if cell.ladder == ladder]
        built += _sections(here, asked, wanted, (ladder, collection, name))
    return built


def _sections(
    results: list[CellResult], begun: list[Asked], wanted: Wanted, where: tuple[str, str, str]
) -> list[Section]:
    """Of one collection: a section, or one for each table that is wanted."""
    asked = [*(result.asked for result in results), *begun]
    keys = telling(asked, wanted.keys)
    found: dict[Cell, list[CellResult]] = {}
    for result in results:
        found.setdefault(place(result.asked, keys), []).append(result)
    for cell in [*(place(one, keys) for one in begun), *_grid(wanted, keys, list(found))]:
        found.setdefault(cell, [])
    grid = wanted.grid.items()
    found = {c: r for c, r in found.items() if all(c[key] in values for key, values in grid)}
    tables: dict[str, dict[Cell, list[CellResult]]] = {}
    names = Axes(MODEL, tuple(found), _titles(asked), {})
    for cell, of_cell in found.items():
        table = ", ".join(names.said(key, cell[key]) for key in wanted.tables)
        tables.setdefault(table, {})[cell] = of_cell
    ladder, collection, name = where
    return [
        _section(
            cells, wanted, names.titles, (ladder, collection, f"{name}, {table}" if table else name)
        )
        for table, cells in sorted(tables.items())
    ]


def _titles(asked: Iterable[Asked]) -> dict[tuple[str, str], str]:
    return {(axis, one.axes[axis]): one.titles[axis] for one in asked for axis in one.axes}


def _grid(wanted: Wanted, keys: Sequence[str], found: Sequence[Cell]) -> list[Cell]:
    """The combinations that were asked for and that no cell is of."""
    if not wanted.grid:
        return []
    seen = {axis: list(dict.fromkeys(cell[axis] for cell in found)) for axis in AXES}
    more = {key: values for key, values in wanted.grid.items() if key in keys}
    lists = {axis: wanted.grid.get(axis, seen[axis]) for axis in AXES}
    holes = []
    for cell in grid(**lists, **more):
        named = dict(cell.more)
        there = (c for c in found if all(c[key] == cell[key] for key in (*AXES, *named)))
        if not any(there):
            holes.append(replace(cell, more=tuple((k, named[k]) for k in keys if k in named)))
    return holes


def _section(
    found: Mapping[Cell, list[CellResult]],
    wanted: Wanted,
    titles: Mapping[tuple[str, str], str],
    where: tuple[str, str, str],
) -> Section:
    ladder, collection, name = where
    sizes: dict[str, list[float]] = {}
    for cell, results in found.items():
        counts = [number(result.backbone, "parameters") for result in results]
        sizes.setdefault(cell.model, []).extend(count for count in counts if count)
    known = {model: statistics.median(counts) for model, counts in sizes.items() if counts}
    axes = Axes(MODEL, tuple(found), titles, known)
    axes = replace(axes, columns=_columns(axes, wanted.columns))
    notes: list[str] = []
    chosen = {cell: _newest(axes.name(cell), found[cell], notes) for cell in axes.ordered}
    named = [(cell, axes.name(cell), result) for cell in chosen for result in chosen[cell]]
    notes += [*_differ(axes), *_uneven_seeds(axes, chosen), *_inexact(named, collection)]
    section = Section(ladder, collection, name, axes, chosen, notes, Comparison())
    measures = {next(iter(result.scores[collection]), "") for result in section.shown}
    if len(measures) > 1:
        notes.append(f"Cells differ in their first measure ({', '.join(sorted(measures))}).")
    return replace(section, comparison=compare(named, collection, section.main))


def _columns(axes: Axes, wanted: str | None) -> str:
    """The key across: sizes, or where there is just one the number that has most values."""
    if wanted is not None:
        if len(axes.values(wanted)) < 2:
            several = [key for key in axes.keys if len(axes.values(key)) > 1]
            raise ValueError(
                f"{wanted} has one value here, {axes.values(wanted)[0]}; keys with several: "
                f"{', '.join(several) or 'none'}"
            )
        return wanted
    if len(axes.values(MODEL)) > 1:
        return MODEL
    numbers = [k for k in axes.keys if all(as_number(v) is not None for v in axes.values(k))]
    most = max(numbers, key=lambda key: len(axes.values(key)), default=MODEL)
    return most if len(axes.values(most)) > 1 else MODEL


def _differ(axes: Axes) -> list[str]:
    """A note where cells differ in more than the three axes."""
    keys = [key for key in axes.keys if key not in AXES and len(axes.values(key)) > 1]
    return [f"Cells differ in {', '.join(keys)}."] if keys else []


def _uneven_seeds(axes: Axes, results: Mapping[Cell, list[CellResult]]) -> list[str]:
    """A note where the cells that have results have them for different numbers of seeds."""
    counts = {cell: len(found) for cell, found in results.items() if found}
    usual = statistics.mode(counts.values()) if counts else 0
    others = [f"{axes.name(cell)} ({count})" for cell, count in counts.items() if count != usual]
    return [f"Seeds per cell: {usual}, except for {', '.join(others)}."] if others else []


def _inexact(results: Iterable[tuple[Cell, str, CellResult]], collection: str) -> list[str]:
    """A note that names the results whose search may have missed hits, and how many it found."""
    found = []
    for _, name, result in results:
        shares = [number(result.efficiency, collection, key) for key in AGREEMENT]
        known = [f"{share:.2%}" for share in shares if share is not None]
        if known:
            found.append(f"{name} ({', '.join(known)})")
    if not found:
        return []
    return [
        "Searched by an approximate engine or in half precision, with the shares of exact "
        f"search's top 10 and of all its hits that were found: {'; '.join(found)}."
    ]


def _newest(name: str, oldest_first: list[CellResult], notes: list[str]) -> list[CellResult]:
    """The newest result per seed; adds a note naming the results it leaves out."""
    newest = {result.seed: result for result in oldest_first}
    for seed, shown in sorted(newest.items()):
        if older := [r.id for r in oldest_first if r.seed == seed and r is not shown]:
            notes.append(
                f"{name}, seed {seed}: shows {shown.id}, the newest; left out, of the same "
                f"configuration but other inputs or code: {', '.join(older)}."
            )
    return [newest[seed] for seed in sorted(newest)]
