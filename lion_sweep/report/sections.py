"""Arrange the results of a sweep into the sections of a report: one per ladder and collection."""

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from lion_sweep.cell.names import along
from lion_sweep.config.schema import AXES
from lion_sweep.report.axes import MODEL, SEED, Axes, Cell, as_number, place, telling
from lion_sweep.report.collect import Asked, CellResult, number
from lion_sweep.report.fits import Fits, fits
from lion_sweep.report.references import Reference
from lion_sweep.report.significance import HOLM, Comparison, Named, Pair, compare
from lion_sweep.report.statements import Statement

USUAL = "nDCG@10"  # the main measure of cells none of which has a result
AGREEMENT = ("agreement_10", "agreement")


@dataclass(frozen=True)
class Score:
    """Mean of a measure over `n` seeds and its sample standard deviation (None for one seed)."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Choices:
    """How a report was asked to test, what it shows beside its cells, and the claims it tests."""

    correction: str = HOLM
    references: tuple[Reference, ...] = ()
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Section:
    """Cells of one ladder on one collection, with one result per cell and seed; none for holes.

    `begun` are cells and seeds that were asked for and have no result.
    """

    ladder: str
    collection: str
    name: str  # the collection, and what else tells the section apart
    axes: Axes
    results: dict[Cell, list[CellResult]]
    notes: list[str] = field(default_factory=list)
    begun: list[tuple[Cell, Asked]] = field(default_factory=list)
    choices: Choices = Choices()
    # What tables have worked out already, as every form of the report shows it.
    memo: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def named(self) -> list[Named]:
        """Every result with its cell and what tables call that, by cell, then by seed."""
        name = self.axes.name
        return [
            (cell, name(cell), result) for cell in self.results for result in self.results[cell]
        ]

    @property
    def shown(self) -> list[CellResult]:
        """Every result, in the same order."""
        return [result for _, _, result in self.named]

    @cached_property
    def measures(self) -> list[str]:
        """Every measure that a result has here, as cells name them."""
        found = dict.fromkeys(m for result in self.shown for m in result.scores[self.collection])
        return list(found) or [USUAL]

    @property
    def main(self) -> str:
        """The measure that is compared and tested: the first that cells are scored with."""
        return self.measures[0]

    @cached_property
    def comparison(self) -> Comparison:
        """Of all cells and BM25, in the main measure."""
        before = ((cell, self.axes.smaller(cell)[:1]) for cell in self.results)
        steps = [(cell, other) for cell, others in before for other in others]
        correction = self.choices.correction
        return compare(self.named, self.collection, self.main, correction, steps)

    @property
    def seeds(self) -> str:
        """How many seeds its numbers are of, in a sentence."""
        counts = {cell: len(found) for cell, found in self.results.items() if found}
        if not counts:
            return "No cell has a result."
        usual = statistics.mode(counts.values())
        name = self.axes.name
        others = [f"{name(cell)} ({count})" for cell, count in counts.items() if count != usual]
        if others:
            return f"Seeds per cell: {usual}, except for {', '.join(others)}."
        return "One seed per cell." if usual == 1 else f"Seeds per cell: {usual}."

    @cached_property
    def fits(self) -> Fits:
        """Scaling laws of contrastive entropy, and what goes with them."""
        return fits(self.axes, self.results, self.collection, self.main)

    def score(self, cell: Cell | None, measure: str) -> Score | None:
        """The measure (0 to 1) of a cell over its seeds; None for a hole, or no cell."""
        results = self.results.get(cell, []) if cell else []
        found = [number(result.scores, self.collection, measure) for result in results]
        values = [value for value in found if value is not None]
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else None
        return Score(statistics.fmean(values), std, len(values))

    def step(self, cell: Cell | None) -> Pair | None:
        """The cell less the nearest one before it in its row that was compared, if there is one."""
        if cell is None:
            return None
        pairs = {pair.b.cell: pair for pair in self.comparison.against(cell)}
        return next((pairs[other] for other in self.axes.smaller(cell) if other in pairs), None)

    def bm25(self, measure: str) -> float | None:
        """The BM25 baseline (0 to 1) as the newest result has it; None where none has it."""
        newest_first = sorted(self.shown, key=lambda r: r.modified, reverse=True)
        found = (number(r.bm25, self.collection, measure) for r in newest_first)
        return next((value for value in found if value is not None), None)

    def holes(self, measure: str) -> list[Cell]:
        """Asked-for cells without a number for the measure."""
        return [cell for cell in self.results if self.score(cell, measure) is None]


def seeds_of(parts: Sequence[Section]) -> str:
    """How many seeds several sections are of, those of which it is the same together."""
    where: dict[str, list[str]] = defaultdict(list)
    for section in parts:
        where[section.seeds].append(section.name)
    if len(where) == 1:
        return next(iter(where))
    return " ".join(f"{', '.join(names)}: {said}" for said, names in where.items())


def sections(
    results: Iterable[CellResult],
    begun: Sequence[Asked] = (),
    *,
    grid: Mapping[str, Sequence[str]] | None = None,
    columns: str | None = None,
    tables: Sequence[str] = (),
    choices: Choices | None = None,
) -> list[Section]:
    """One section per ladder, collection (by content) and value of the keys of `tables`.

    Its cells are those with results, those that were begun, and all combinations of `grid`, which
    shuts others out. `columns` is the key across; without it sizes are, or what there are several
    of. Raises ValueError for a key across that has one value.
    """
    grid = grid or {}
    wanted = list(dict.fromkeys([*grid, *tables, *filter(None, [columns])]))
    by_key: dict[tuple[str, str, str], list[CellResult]] = defaultdict(list)
    for result in sorted(results, key=lambda r: (r.modified, r.id)):
        for name in result.scores:
            by_key[result.ladder, name, result.checksum(name) or ""].append(result)
    built = []
    for (ladder, collection, checksum), here in sorted(by_key.items()):
        several = sum(key[:2] == (ladder, collection) for key in by_key) > 1
        name = f"{collection} ({checksum[:8]})" if several else collection
        asked = [*(r.asked for r in here), *(cell for cell in begun if cell.ladder == ladder)]
        keys = telling(asked, wanted)
        found = _cells(here, asked, keys, grid)
        titles = {(axis, one.axes[axis]): one.titles[axis] for one in asked for axis in AXES}
        common = Counter((axis, title) for (axis, _), title in titles.items())
        titles = {k: title for k, title in titles.items() if common[k[0], title] == 1}
        axes = Axes(MODEL, tuple(found), titles, {})
        by_table: dict[tuple[str, ...], dict[Cell, list[CellResult]]] = defaultdict(dict)
        for cell, of_cell in found.items():
            by_table[tuple(cell[key] for key in tables)][cell] = of_cell
        for values in itertools.product(*(axes.values(key) for key in tables)):
            if not (cells := by_table.get(values)):
                continue
            table = ", ".join([name, *map(axes.said, tables, values)])
            section = Section(ladder, collection, table, axes, cells)
            section = replace(
                section, begun=_begun(section, begun, keys), choices=choices or Choices()
            )
            built.append(_settled(section, columns))
    return built


def _begun(
    section: Section, begun: Sequence[Asked], keys: Sequence[str]
) -> list[tuple[Cell, Asked]]:
    """What was asked for of the section's cells, by cell and seed, and has no result."""
    there = {(cell, str(result.seed)) for cell, _, result in section.named}
    found: dict[tuple[Cell, str | None], Asked] = {}
    for one in begun:
        cell, seed = place(one, keys), one.settings.get(SEED)
        if one.ladder == section.ladder and cell in section.results and (cell, seed) not in there:
            found[cell, seed] = one
    return [(cell, one) for (cell, _), one in found.items()]


def _cells(
    results: list[CellResult],
    asked: list[Asked],
    keys: list[str],
    grid: Mapping[str, Sequence[str]],
) -> dict[Cell, list[CellResult]]:
    """The results of every cell that was asked for, or that belongs to the grid."""
    found: dict[Cell, list[CellResult]] = {}
    for result in results:
        found.setdefault(place(result.asked, keys), []).append(result)
    scored = list(found)
    for one in asked:
        found.setdefault(place(one, keys), [])
    if not grid:
        return found
    there = list(found)
    lists = {axis: list(dict.fromkeys(cell[axis] for cell in scored)) for axis in AXES}
    lists |= {key: list(values) for key, values in grid.items()}
    for values in itertools.product(*lists.values()):
        told = dict(zip(lists, values, strict=True))
        if not any(all(cell[key] == told[key] for key in told) for cell in there):
            more = tuple((key, told[key]) for key in keys if key in told)
            found.setdefault(Cell(told["model"], told["paradigm"], told["loss"], more), [])
    return {c: r for c, r in found.items() if all(c[key] in grid[key] for key in grid)}


def _settled(section: Section, columns: str | None) -> Section:
    """The newest result per seed, cells in the order of tables, and notes.

    The section's results are all that there are, the oldest first.
    """
    sizes: dict[str, list[float]] = defaultdict(list)
    for result in section.shown:
        if parameters := number(result.backbone, "parameters"):
            sizes[result.asked.axes[MODEL]].append(parameters)
    known = {model: statistics.median(counts) for model, counts in sizes.items()}
    axes = replace(section.axes, cells=tuple(section.results), sizes=known)
    axes = replace(axes, columns=_columns(axes, columns))
    newest = {c: {r.seed: r for r in section.results[c]} for c in axes.ordered}
    chosen = {cell: [found[seed] for seed in sorted(found)] for cell, found in newest.items()}
    settled = replace(section, axes=axes, results=chosen)
    notes = []
    for cell, name, shown in settled.named:
        same_seed = [r.id for r in section.results[cell] if r.seed == shown.seed]
        if older := same_seed[:-1]:
            notes.append(
                f"{name}, seed {shown.seed}: shows {shown.id}, the newest; left out, of the same "
                f"configuration but other inputs or code: {', '.join(older)}."
            )
    return replace(settled, notes=[*notes, *_notes(settled)])


def _columns(axes: Axes, wanted: str | None) -> str:
    """The key across: sizes, or where there is just one the number that has most values."""
    several = [key for key in axes.keys if len(axes.values(key)) > 1]
    if wanted is not None:
        if wanted not in several:
            raise ValueError(
                f"{wanted} has one value here, {axes.values(wanted)[0]}; keys with several: "
                f"{', '.join(several) or 'none'}"
            )
        return wanted
    if MODEL in several:
        return MODEL
    numbers = [k for k in several if all(as_number(v) is not None for v in axes.values(k))]
    return max(numbers, key=lambda key: len(axes.values(key)), default=MODEL)


def _notes(section: Section) -> Iterable[str]:
    """In what cells differ besides the axes, what is there twice, where search may miss hits."""
    axes, collection = section.axes, section.collection
    keys = [key for key in axes.keys if key not in AXES and len(axes.values(key)) > 1]
    if keys:
        yield f"Cells differ in {', '.join(keys)}."
    if also := along([result.asked.settings for result in section.shown]):
        told = [f"{key} (by {of})" for key, of in also.items()]
        yield f"They differ with their axes, as their recipe has it, in {', '.join(told)}."
    for _, name, result in section.named:
        if result.copies:
            yield f"{name}: {result.id} lies in {result.folder.name}; left out is its copy in " + (
                f"{', '.join(result.copies)}."
            )
    found = []
    for _, name, result in section.named:
        shares = [number(result.efficiency, collection, key) for key in AGREEMENT]
        known = [f"{share:.2%}" for share in shares if share is not None]
        if known:
            found.append(f"{name} ({', '.join(known)})")
    if found:
        yield (
            "Searched by an approximate engine or in half precision, with the shares of exact "
            f"search's top 10 and of all its hits that were found: {'; '.join(found)}."
        )
    measures = {next(iter(result.scores[collection]), "") for result in section.shown}
    if len(measures) > 1:
        yield f"Cells differ in their first measure ({', '.join(sorted(measures))})."
