"""Scaling laws, IsoFLOP profiles and forecasts of a section: a set of them per paradigm and loss.

They are of contrastive entropy, which every result has, and of numbers that results tell: sizes,
training queries, useful FLOPs. Cells that differ in the model and the budget alone are one group.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from lion_sweep.evaluation import laws
from lion_sweep.evaluation.forecast import Forecast, forecast
from lion_sweep.evaluation.isoflop import Profile, profile
from lion_sweep.evaluation.laws import Fit, Law, Numbers, Points
from lion_sweep.report.axes import MODEL, Axes, Cell, as_number
from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.significance import PerQuery, read_per_query

ENTROPY = "entropy"
BARE, WHOLE = "without embeddings", "with embeddings"
EQUAL = 0.25  # cells of an IsoFLOP profile spend the same but for such a share
Results = Mapping[Cell, Sequence[CellResult]]


@dataclass(frozen=True)
class Point:
    """A cell: means over its seeds, and losses by seed and query; None where it is not told."""

    cell: Cell
    seeds: tuple[int, ...]
    budget: str  # as tables say it
    size: float | None
    queries: float | None  # that it was trained with
    flops: float | None
    loss_SQ: Numbers
    score: float | None

    @property
    def loss(self) -> float:
        return float(self.loss_SQ.mean())


@dataclass(frozen=True)
class Group:
    """What was fitted to the cells of one paradigm and loss."""

    name: str
    points: tuple[Point, ...]
    laws: Mapping[str, Fit]  # by the law, and of which budget
    profiles: Mapping[str, Profile]  # by budget
    forecast: Forecast
    notes: tuple[str, ...]

    @property
    def sizes(self) -> int:
        """How many there are."""
        return len({point.cell.model for point in self.points})


@dataclass(frozen=True)
class Fits:
    """All groups of a section; `counted` says what sizes are."""

    groups: tuple[Group, ...] = ()
    counted: str = BARE
    measure: str = ""

    @property
    def shown(self) -> bool:
        """Whether there is anything to fit."""
        return any(group.sizes > 1 for group in self.groups)


def fits(axes: Axes, results: Results, collection: str, measure: str) -> Fits:
    """Of the cells with an entropy on the collection; `measure` is what forecasts are of."""
    entropies = {
        cell: [r for r in found if number(r.entropy, collection) is not None]
        for cell, found in results.items()
    }
    there = [result for found in entropies.values() for result in found]
    bare = all(number(result.backbone, "embeddings") is not None for result in there)
    by_name: dict[str, list[Cell]] = defaultdict(list)
    for cell in axes.ordered:
        by_name[_name(axes, cell)].append(cell)
    groups = []
    for name, cells in by_name.items():
        known = {cell: found for cell in cells if (found := entropies.get(cell))}
        if known:
            left = len(cells) - len(known)
            notes = [f"{left} of {len(cells)} cells left out, without an entropy"] if left else []
            points, more = _points(axes, known, collection, measure, bare)
            groups.append(_group(name, points, [*notes, *more]))
    return Fits(tuple(groups), BARE if bare else WHOLE, measure)


def _name(axes: Axes, cell: Cell) -> str:
    """Of the group: paradigm, loss, and what else than the model and the budget tells it apart."""
    keys = [key for key in axes.keys if key != MODEL and not key.startswith("budget.")]
    several = [key for key in keys[2:] if len(axes.values(key)) > 1]
    titles = [axes.titles.get((key, cell[key]), cell[key]) for key in keys[:2]]
    return " ".join([*titles, *(axes.said(key, cell[key]) for key in several)])


def _points(
    axes: Axes, known: Results, collection: str, measure: str, bare: bool
) -> tuple[list[Point], list[str]]:
    """A point per cell, of the queries that all have; of means where one tells no others."""
    read = {cell: [_per_query(one, collection) for one in found] for cell, found in known.items()}
    told = [values for of_cell in read.values() for values in of_cell]
    shared = sorted(set.intersection(*(set(values or {}) for values in told)))
    notes = []
    if not shared:
        notes.append("no intervals, as cells have no values per query in common")
    elif any(values and len(values) > len(shared) for values in told):
        notes.append(f"of the {len(shared):,} queries that all cells have")
    budgets = [key for key in axes.keys if key.startswith("budget.")]
    points = []
    for cell, found in known.items():
        losses = [
            [values[query] for query in shared]
            if values and shared
            else [number(one.entropy, collection)]
            for one, values in zip(found, read[cell], strict=True)
        ]
        points.append(
            Point(
                cell,
                tuple(one.seed for one in found),
                ", ".join(axes.said(key, cell[key]) for key in budgets),
                _mean(_size(one, bare) for one in found),
                _mean(_queries(one) for one in found),
                _mean(number(one.ledger, "train", "spent", "useful_flops") for one in found),
                np.array(losses, np.float64),
                _mean(number(one.scores, collection, measure) for one in found),
            )
        )
    return points, notes


def _per_query(result: CellResult, collection: str) -> PerQuery | None:
    path = result.folder / "per_query" / f"{collection}.entropy.json"
    return read_per_query(path, ENTROPY, number(result.entropy, collection))


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return fmean(v for v in known if v is not None) if known and None not in known else None


def _size(result: CellResult, bare: bool) -> float | None:
    whole, embeddings = (number(result.backbone, key) for key in ("parameters", "embeddings"))
    return whole - embeddings if bare and whole and embeddings is not None else whole


def _queries(result: CellResult) -> float | None:
    """That training has seen: steps of so many."""
    steps = number(result.ledger, "train", "spent", "steps")
    batch = as_number(result.asked.settings.get("loss.batch_size", ""))
    return None if steps is None or batch is None else steps * batch


def _group(name: str, points: list[Point], notes: list[str]) -> Group:
    by_budget: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        by_budget[point.budget].append(point)
    budgets = len(by_budget)
    found = {}
    for budget, of_budget in by_budget.items():
        found[f"size at {budget}" if budgets > 1 else "size"] = _fit(laws.SIZE, of_budget)
    # The best size of each budget, which choosing on the same queries makes look a little better.
    frontier = [min(of_budget, key=lambda point: point.loss) for of_budget in by_budget.values()]
    found["compute"] = _fit(laws.COMPUTE, frontier, budgets)
    for law in (laws.JOINT, laws.ENTROPY):
        found[law.name] = _fit(law, points, budgets)
    profiles = {budget: _profile(of_budget) for budget, of_budget in by_budget.items()}
    scored = [point for point in points if point.score is not None and point.size is not None]
    entropy_P, score_P, size_P = (
        np.array([getattr(point, key) for point in scored], np.float64)
        for key in ("loss", "score", "size")
    )
    foreseen = forecast(entropy_P, score_P, size_P)
    return Group(name, tuple(points), found, profiles, foreseen, tuple(notes))


def _fit(law: Law, points: Sequence[Point], budgets: int | None = None) -> Fit:
    if untold := _untold(points, law.letters):
        return Fit(law, len(points), f"{laws.counted(len(points))}, no law: {untold}")
    return laws.fit(law, _of(points), budgets)


def _profile(points: Sequence[Point]) -> Profile:
    if untold := _untold(points, "NC"):
        return Profile((), (), untold)
    flops = [point.flops for point in points if point.flops]
    apart = max(flops) / min(flops) - 1
    if apart > EQUAL:
        return Profile((), (), f"no profile: cells spent up to {apart:.0%} more than others")
    return profile(_of(points))


LETTERS = {"N": "size", "D": "queries", "C": "flops"}
SAID = {"N": "sizes", "D": "training queries", "C": "FLOPs"}


def _untold(points: Sequence[Point], letters: str) -> str:
    """What some results do not tell, which a law needs."""
    missing = [
        SAID[letter]
        for letter in letters
        if not all(getattr(point, LETTERS[letter]) for point in points)
    ]
    return f"results do not tell {' and '.join(missing)}" if missing else ""


def _of(points: Sequence[Point]) -> Points:
    inputs = {
        letter: np.array([getattr(point, key) for point in points], np.float64)
        for letter, key in LETTERS.items()
        if all(getattr(point, key) for point in points)
    }
    return Points(inputs, [point.loss_SQ for point in points])
