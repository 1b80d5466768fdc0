"""Arrange the results of a sweep into the sections of a report: one per ladder and collection."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lion_sweep.report.collect import MEASURES, Cell, CellResult, number
from lion_sweep.report.significance import Comparison, compare

AGREEMENT = ("agreement_10", "agreement")


@dataclass(frozen=True)
class Score:
    """Mean of a measure over `n` seeds and its sample standard deviation (None for one seed)."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Section:
    """The asked-for cells of one ladder on one collection, with one result per cell and seed."""

    ladder: str
    collection: str
    results: dict[Cell, list[CellResult]]
    started: frozenset[Cell]
    notes: list[str]
    comparison: Comparison

    @property
    def models(self) -> list[str]:
        """Asked-for sizes, in grid order."""
        return list(dict.fromkeys(cell.model for cell in self.results))

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Asked-for (paradigm, loss) pairs, in grid order."""
        return list(dict.fromkeys((cell.paradigm, cell.loss) for cell in self.results))

    @property
    def shown(self) -> list[CellResult]:
        """Every result of the section, in grid order, then by seed."""
        return [result for results in self.results.values() for result in results]

    @property
    def measures(self) -> list[str]:
        """Every measure that a result has here, the main one first."""
        found = {measure for result in self.shown for measure in result.scores[self.collection]}
        first = [measure for measure in MEASURES if measure in found or not found]
        return [*first, *sorted(found - set(first))]

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
        found = [number(r.scores, self.collection, measure) for r in self.results[cell]]
        values = [value for value in found if value is not None]
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else None
        return Score(statistics.fmean(values), std, len(values))

    def bm25(self, measure: str) -> float | None:
        """The BM25 baseline (0 to 1) as the newest result has it; None where none has it."""
        newest_first = sorted(self.shown, key=lambda r: r.modified, reverse=True)
        found = (number(r.bm25, self.collection, measure) for r in newest_first)
        return next((value for value in found if value is not None), None)

    def holes(self, measure: str) -> list[Cell]:
        """Asked-for cells without a number for the measure, in grid order."""
        return [cell for cell in self.results if self.score(cell, measure) is None]


def sections(
    results: Iterable[CellResult], cells: Iterable[Cell], begun: Iterable[tuple[str, Cell]] = ()
) -> list[Section]:
    """One section per (ladder, collection) of the results, holding the asked-for cells only."""
    by_key: dict[tuple[str, str], list[CellResult]] = {}
    for result in sorted(results, key=lambda r: (r.modified, r.id)):
        for name in result.scores:
            by_key.setdefault((result.ladder, name), []).append(result)
    cells, begun = list(cells), list(begun)
    built = []
    for (ladder, name), here in sorted(by_key.items(), key=lambda item: item[0]):
        notes: list[str] = []
        chosen = {c: _newest(c, [r for r in here if r.axes == c], notes) for c in cells}
        going = frozenset(cell for at, cell in begun if at == ladder)
        shown = [result for results in chosen.values() for result in results]
        if len({result.data for result in shown}) > 1:
            notes.append("Cells differ in their training data; --data NAME shows one kind.")
        if len({result.checksum(name) for result in shown}) > 1:
            notes.append("Cells were scored on collections of different checksums.")
        notes += [*_uneven_seeds(chosen), *_inexact(shown, name)]
        built.append(Section(ladder, name, chosen, going, notes, compare(shown, name)))
    return built


def _uneven_seeds(results: Mapping[Cell, list[CellResult]]) -> list[str]:
    """A note where the cells that have results have them for different numbers of seeds."""
    counts = {cell: len(found) for cell, found in results.items() if found}
    usual = statistics.mode(counts.values()) if counts else 0
    others = [f"{cell} ({count})" for cell, count in counts.items() if count != usual]
    return [f"Seeds per cell: {usual}, except for {', '.join(others)}."] if others else []


def _inexact(results: Iterable[CellResult], collection: str) -> list[str]:
    """A note that names the results whose search may have missed hits, and how many it found."""
    found = []
    for result in results:
        shares = [number(result.efficiency, collection, key) for key in AGREEMENT]
        known = [f"{share:.2%}" for share in shares if share is not None]
        if known:
            found.append(f"{result.axes} ({', '.join(known)})")
    if not found:
        return []
    return [
        "Searched by an approximate engine or in half precision, with the shares of exact "
        f"search's top 10 and of all its hits that were found: {'; '.join(found)}."
    ]


def _newest(cell: Cell, oldest_first: list[CellResult], notes: list[str]) -> list[CellResult]:
    """The newest result per seed; adds a note naming the results it leaves out."""
    newest = {result.seed: result for result in oldest_first}
    for seed, shown in sorted(newest.items()):
        if older := [r.id for r in oldest_first if r.seed == seed and r is not shown]:
            notes.append(
                f"{cell}, seed {seed}: shows {shown.id}, the newest; "
                f"other configurations left out: {', '.join(older)}."
            )
    return [newest[seed] for seed in sorted(newest)]
