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
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from lion_sweep.evaluation.significance import align, bootstrap_intervals, holm, randomisation_test
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import CellResult, number

LEVEL = 0.95
ALPHA = 0.05
PERMUTATIONS = 100_000
"""Holm tests the smallest p of 171 pairs at .0003, which 10,000 permutations hardly resolve."""
SAMPLES = 10_000
SEED = 0
BM25 = "BM25"

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
    """Two systems and the difference of their means, a less b; p_holm is over all pairs."""

    a: System
    b: System
    difference: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the systems differ after Holm's correction."""
        return self.p_holm <= ALPHA

    def swapped(self) -> "Pair":
        """The same pair as b less a."""
        return Pair(self.b, self.a, -self.difference, -self.high, -self.low, self.p, self.p_holm)


@dataclass(frozen=True)
class Comparison:
    """The systems that could be compared, all their pairs, and what was left out."""

    queries: int = 0
    systems: list[System] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def against(self, cell: Cell | None) -> list[Pair]:
        """The cell, or BM25, less every other system, in the order of the systems."""
        before = [pair.swapped() for pair in self.pairs if pair.b.cell == cell]
        return before + [pair for pair in self.pairs if pair.a.cell == cell]


def compare(results: Iterable[Named], collection: str, measure: str) -> Comparison:
    """Compare the cells of the results, and BM25, in a measure on the collection.

    Results whose per-query values cannot be read, or have another mean than the result tells, are
    left out, and so are those of other queries than most results have; notes name them.
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
    return _compare(group, baseline, notes)


def _compare(group: list[Scored], baseline: PerQuery | None, notes: list[str]) -> Comparison:
    """Intervals and tests of results that have their queries in common."""
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
    means_S2, differences_R2 = bootstrap_intervals(scores_SQ, SAMPLES, SEED, LEVEL)
    p_R = randomisation_test(scores_SQ, PERMUTATIONS, SEED)
    means = zip(scores_SQ.mean(axis=1).tolist(), *means_S2.T.tolist(), strict=True)
    systems = [
        System(*key, tuple(s.result.seed for s in by_cell.get(key, [])), *numbers)
        for key, numbers in zip(scores, means, strict=True)
    ]
    tests = zip(*differences_R2.T.tolist(), p_R.tolist(), holm(p_R).tolist(), strict=True)
    pairs = [
        Pair(a, b, a.mean - b.mean, *numbers)
        for (a, b), numbers in zip(combinations(systems, 2), tests, strict=True)
    ]
    return Comparison(scores_SQ.shape[1], systems, pairs, notes)


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
