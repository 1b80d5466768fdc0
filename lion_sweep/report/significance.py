"""Which systems of a section differ: intervals and tests over stored per-query values.

The systems are the cells and BM25, the values those of the main measure. Where a cell has several
seeds, its values are averaged per query first: intervals and tests then speak of what these trained
models do on other queries of the same kind, not of what other seeds would give; that is what the
standard deviation between seeds is for. Only systems scored on the same queries of the same
collection are compared.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from lion_sweep.evaluation.significance import (
    Array,
    Rows,
    align,
    all_pairs,
    benjamini_hochberg,
    bootstrap_intervals,
    effect_sizes,
    holm,
    randomisation_tests,
)
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import CellResult, number

LEVEL = 0.95
ALPHA = 0.05
PERMUTATIONS = 100_000
"""Holm tests the smallest p of 171 pairs at .0003, which 10,000 permutations hardly resolve."""
SAMPLES = 10_000
SEED = 0
BM25 = "BM25"
HOLM, MAXT, BH = "holm", "maxt", "bh"
CORRECTIONS = {
    HOLM: "Holm's correction",
    MAXT: "the step-down MaxT of Westfall and Young",
    BH: "the false discovery rate of Benjamini and Hochberg",
}
MOST_SYSTEMS = 100
"""Of more, all pairs would take hours, and no p that can be drawn would pass the correction."""

PerQuery = dict[str, float]
Named = tuple[Cell, str, CellResult]  # with what tables call the cell


class Scored(NamedTuple):
    """A result with its per-query values; `name` is what tables call its cell."""

    cell: Cell
    name: str
    result: CellResult
    values: PerQuery


@dataclass(frozen=True)
class System:
    """A cell, or BM25 (without cell and seeds), with the interval of its mean over the queries."""

    name: str
    cell: Cell | None
    seeds: tuple[int, ...]
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two systems and the difference of their means, a less b, with its p as `correction` has it.

    `effect` is Cohen's d over the queries, None where all differences are equal.
    """

    a: System
    b: System
    difference: float
    low: float
    high: float
    effect: float | None
    p: float
    p_holm: float
    p_maxt: float
    p_bh: float
    correction: str = HOLM

    @property
    def p_adjusted(self) -> float:
        """p after the correction for all pairs."""
        return {HOLM: self.p_holm, MAXT: self.p_maxt, BH: self.p_bh}[self.correction]

    @property
    def significant(self) -> bool:
        """Whether the systems differ after the correction."""
        return self.p_adjusted <= ALPHA

    @property
    def above(self) -> bool:
        """Whether a is significantly better."""
        return self.significant and self.difference > 0

    @property
    def below(self) -> bool:
        """Whether b is significantly better."""
        return self.significant and self.difference < 0

    def swapped(self) -> "Pair":
        """The same pair as b less a."""
        effect = None if self.effect is None else -self.effect
        turned = replace(self, a=self.b, b=self.a, low=-self.high, high=-self.low)
        return replace(turned, difference=-self.difference, effect=effect)


@dataclass(frozen=True)
class Comparison:
    """The systems that could be compared, their pairs, and what was left out."""

    queries: int = 0
    systems: list[System] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scores_SQ: Array | None = field(default=None, compare=False, repr=False)  # of the systems

    @cached_property
    def _by_cell(self) -> dict[Cell | None, list[Pair]]:
        found: dict[Cell | None, list[Pair]] = defaultdict(list)
        for pair in self.pairs:
            found[pair.b.cell].append(pair.swapped())
        for pair in self.pairs:
            found[pair.a.cell].append(pair)
        return found

    def against(self, cell: Cell | None) -> list[Pair]:
        """The cell, or BM25, less every other system, in the order of the systems."""
        return self._by_cell.get(cell, [])

    def pair(self, cell: Cell, other: Cell | None) -> Pair | None:
        """The cell less another one, or less BM25 (None), where these were compared."""
        return next((pair for pair in self.against(cell) if pair.b.cell == other), None)

    def values(self, cell: Cell) -> Array | None:
        """Values of a compared cell by query, the queries in the order of their ids."""
        row = self._rows.get(cell)
        return self.scores_SQ[row] if row is not None and self.scores_SQ is not None else None

    @cached_property
    def _rows(self) -> dict[Cell | None, int]:
        return {system.cell: row for row, system in enumerate(self.systems)}

    @property
    def tested(self) -> str:
        """How differences were tested, in words."""
        correction = CORRECTIONS[self.pairs[0].correction if self.pairs else HOLM]
        return (
            f"paired randomisation over {self.queries:,} queries ({PERMUTATIONS:,} permutations), "
            f"{correction} over {len(self.pairs):,} pairs, level {ALPHA}"
        )


def compare(
    results: Iterable[Named],
    collection: str,
    measure: str,
    correction: str = HOLM,
    steps: Sequence[tuple[Cell, Cell]] = (),
) -> Comparison:
    """Compare the cells of the results, and BM25, in a measure on the collection.

    Results whose per-query values cannot be read, or have another mean than the result tells, are
    left out, and so are those of other queries than most results have; notes name them. Of more
    systems than `MOST_SYSTEMS` only the `steps`, and all with BM25 and with the best, are compared.
    """
    groups: dict[frozenset[str], list[Scored]] = defaultdict(list)
    missing = []
    for cell, name, result in results:
        path = result.folder / "per_query" / f"{collection}.json"
        values = read_per_query(path, measure, number(result.scores, collection, measure))
        if values is None:
            missing.append(f"{name}, seed {result.seed}")
        else:
            groups[frozenset(values)].append(Scored(cell, name, result, values))
    if not groups:
        nothing = f"No cell has per-query values of {measure}: no intervals and no tests."
        return Comparison(notes=[nothing] if missing else [])
    # The most results; of equally many, the newest.
    queries = max(groups, key=lambda q: (len(groups[q]), max(s.result.modified for s in groups[q])))
    group = groups.pop(queries)
    others = [f"{s.name}, seed {s.result.seed}" for other in groups.values() for s in other]
    baseline = _bm25(group, collection, measure)
    if baseline is None:
        missing.append(BM25)
    reasons = {"without per-query values of the mean shown": missing}
    reasons["scored on other queries or another collection"] = others
    notes = [f"Not compared, {why}: {'; '.join(names)}." for why, names in reasons.items() if names]
    if len(queries) < 2:
        return Comparison(notes=[*notes, "Intervals and tests need more than one query."])
    return _compare(_systems(group, baseline), notes, correction, steps)


def _systems(group: list[Scored], baseline: PerQuery | None) -> tuple[list[System], Array]:
    """The systems, still without intervals, and their values; those of several seeds averaged."""
    by_cell: dict[tuple[str, Cell | None], list[Scored]] = defaultdict(list)
    for scored in group:
        by_cell[scored.name, scored.cell].append(scored)
    scores = {
        key: {query: fmean(s.values[query] for s in found) for query in found[0].values}
        for key, found in by_cell.items()
    }
    if baseline is not None:
        scores[BM25, None] = baseline
    scores_SQ = align({name: values for (name, _), values in scores.items()})
    means = scores_SQ.mean(axis=1).tolist()
    systems = [
        System(*key, tuple(s.result.seed for s in by_cell.get(key, [])), mean, mean, mean)
        for key, mean in zip(scores, means, strict=True)
    ]
    return systems, scores_SQ


def _compare(
    given: tuple[list[System], Array],
    notes: list[str],
    correction: str,
    steps: Sequence[tuple[Cell, Cell]],
) -> Comparison:
    """Intervals and tests of systems that have their queries in common."""
    systems, scores_SQ = given
    pairs_R2 = all_pairs(len(systems))
    if len(systems) > MOST_SYSTEMS:
        pairs_R2 = _chosen(systems, steps)
        notes = [
            *notes,
            f"Of {len(systems):,} systems not all pairs were compared, but each with the one "
            f"before it, with {BM25} and with the best.",
        ]
    means_S2, differences_R2 = bootstrap_intervals(scores_SQ, SAMPLES, SEED, LEVEL, pairs_R2)
    p_R, maxt_R = randomisation_tests(scores_SQ, PERMUTATIONS, SEED, pairs_R2)
    systems = [
        replace(system, low=low, high=high)
        for system, (low, high) in zip(systems, means_S2.tolist(), strict=True)
    ]
    effects = (None if np.isnan(d) else d for d in effect_sizes(scores_SQ, pairs_R2).tolist())
    ps = (part.tolist() for part in (p_R, holm(p_R), maxt_R, benjamini_hochberg(p_R)))
    told_R = [correction] * len(pairs_R2)
    numbers = zip(*differences_R2.T.tolist(), effects, *ps, told_R, strict=True)
    pairs = []
    for (first, second), told in zip(pairs_R2.tolist(), numbers, strict=True):
        a, b = systems[first], systems[second]
        pairs.append(Pair(a, b, a.mean - b.mean, *told))
    return Comparison(scores_SQ.shape[1], systems, pairs, notes, scores_SQ)


def _chosen(systems: list[System], steps: Sequence[tuple[Cell, Cell]]) -> Rows:
    """Pairs of the steps, and of every system with BM25 and with the best cell."""
    at = {system.cell: row for row, system in enumerate(systems)}
    best = max((s for s in systems if s.cell), key=lambda system: system.mean)
    wanted = {tuple(sorted((at[a], at[b]))) for a, b in steps if a in at and b in at}
    for reference in {best.cell, None} & at.keys():
        row = at[reference]
        wanted |= {(min(row, other), max(row, other)) for other in at.values() if other != row}
    return np.array(sorted(wanted), np.intp).reshape(-1, 2)


def read_per_query(path: Path, measure: str, mean: float | None) -> PerQuery | None:
    """Query id -> value of the measure, all finite and of the given mean; None otherwise."""
    try:
        stored = json.loads(path.read_text("utf-8"))[measure]
        values = {query: float(value) for query, value in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if mean is None or not values or not math.isclose(fmean(values.values()), mean, rel_tol=1e-6):
        return None
    return values


def _bm25(group: list[Scored], collection: str, measure: str) -> PerQuery | None:
    """BM25's values as the newest result kept them, if they are of the same queries."""
    for scored in sorted(group, key=lambda s: s.result.modified, reverse=True):
        path = scored.result.folder / "per_query" / f"{collection}.bm25.json"
        mean = number(scored.result.bm25, collection, measure)
        values = read_per_query(path, measure, mean)
        if values is not None and values.keys() == scored.values.keys():
            return values
    return None
