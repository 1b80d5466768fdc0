"""Which collections can tell cells apart: how far these lie apart, over how far noise moves one.

Source: Heineman et al., Signal and Noise, arXiv 2508.13144: the signal is the relative spread of
models, the noise the relative standard deviation over the last checkpoints of one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.layout import Table, show
from lion_sweep.report.sections import Section, seeds_of

POINTS, LEAST = "points.jsonl", 3
IN_TRAINING = "MRR@10"  # as evaluation points in training measure it, among their candidates
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Noise:
    """Of one collection: signal, noise and how many cells told it, by seeds and by checkpoints."""

    spread: float | None  # of the cells' means in the main measure
    over_seeds: float | None
    spread_in_training: float | None
    over_points: float | None
    told: int  # cells with enough points

    @property
    def by_seeds(self) -> float | None:
        """Signal to noise in the main measure."""
        return _ratio(self.spread, self.over_seeds)

    @property
    def by_points(self) -> float | None:
        """Signal to noise in the measure of training's evaluation points."""
        return _ratio(self.spread_in_training, self.over_points)


def noise(section: Section) -> Noise:
    """Points are of the collection that cells were trained on: of others theirs are unknown."""
    if "noise" not in section.memo:
        section.memo["noise"] = _noise(section)
    return section.memo["noise"]


def _noise(section: Section) -> Noise:
    scores = [score for cell in section.results if (score := section.score(cell, section.main))]
    seeds = [s.std / s.mean for s in scores if s.std is not None and s.mean > 0]
    last, relative = [], []
    for result in section.shown:
        values = last_half(result) if result.data == section.collection else []
        if len(values) >= LEAST and fmean(values) > 0:
            last.append(values[-1])
            relative.append(stdev(values) / fmean(values))
    return Noise(
        spread=_spread([score.mean for score in scores]),
        over_seeds=fmean(seeds) if seeds else None,
        spread_in_training=_spread(last),
        over_points=fmean(relative) if relative else None,
        told=len(relative),
    )


def last_half(result: CellResult) -> list[float]:
    """The measure at the evaluation points in the last half of training; none if unreadable."""
    points = points_of(result)
    steps = [step for point in points if (step := number(point, "step")) is not None]
    found = []
    for point in points:
        step, value = number(point, "step"), number(point, IN_TRAINING)
        if step is not None and value is not None and 2 * step > max(steps):
            found.append(value)
    return found


def points_of(result: CellResult) -> list[dict[str, float]]:
    """The lines of the record of evaluation points; none if unreadable."""
    text = result.folder / POINTS
    try:
        told = [json.loads(line) for line in text.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError):
        return []
    return [point for point in told if isinstance(point, dict)]


def _spread(means: Sequence[float]) -> float | None:
    """The largest less the smallest, over the mean."""
    if len(means) < 2 or fmean(means) <= 0:
        return None
    return (max(means) - min(means)) / fmean(means)


def _ratio(signal: float | None, of: float | None) -> float | None:
    return signal / of if signal is not None and of else None


def noise_table(ladder: str, sections: Sequence[Section]) -> Table:
    """A row per collection."""
    rows = []
    for section in sections:
        one = noise(section)
        shares = (one.spread, one.over_seeds, one.spread_in_training, one.over_points)
        spread, seeds, trained, points = (
            UNKNOWN if share is None else f"{100 * share:.1f}" for share in shares
        )
        by_seeds, by_points = (
            UNKNOWN if ratio is None else show(ratio, ".1f")
            for ratio in (one.by_seeds, one.by_points)
        )
        rows.append(
            [section.name, section.main, spread, seeds, by_seeds, trained, points, by_points,
             str(one.told)]
        )  # fmt: skip
    return Table(
        title=f"Signal and noise, {ladder} ladder",
        header=[
            "Collection", "Measure", "Spread of cells %", "Over seeds %", "Signal to noise, seeds",
            f"Spread in training, {IN_TRAINING} %", "Over last points %",
            "Signal to noise, points", "Results with points",
        ],
        rows=rows,
        below=[
            "Spread: the best cell's mean less the worst one's, relative to the mean of all. Over "
            "seeds: relative standard deviation between a cell's seeds, mean over cells. Over last "
            f"points: the same between the evaluation points in the last half of training, where "
            f"there are {LEAST}, with the spread of the cells at their last point beside it; "
            "points are of the collection that cells were trained on. A collection with little "
            "signal to noise can hardly tell cells apart.",
            seeds_of(sections),
        ],
    )  # fmt: skip
