"""Which size is best at one budget: a parabola through the losses over the logarithm of size.

Source: Hoffmann et al. 2022, whose second approach this is. Far from its minimum a loss is no
parabola, which moves the minimum by some per cent (arXiv 2603.22339).

Shapes: P sizes, B bootstrap samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lion_sweep.evaluation.laws import SAMPLES, SIZES, SPARE, Numbers, Points, interval

TERMS = 3


@dataclass(frozen=True)
class Profile:
    """Losses of one budget over size, and where they are least; or why that is not said."""

    size_P: tuple[float, ...]  # ascending
    loss_P: tuple[float, ...]
    refused: str = ""
    best: float | None = None  # the size of least loss; None where it is not among the sizes
    interval: tuple[float, float] | None = None  # cut at the smallest and the largest size
    edge: str = ""  # what keeps the minimum from being believed
    residuals: tuple[float, ...] = ()

    @property
    def least(self) -> float:
        """The size that did best, of those that were tried."""
        return self.size_P[int(np.argmin(self.loss_P))]


def profile(points: Points, samples: int = SAMPLES) -> Profile:
    """Of the points of one budget, by their input N."""
    order_P = np.argsort(points.inputs["N"], kind="stable")
    size_P, loss_P = points.inputs["N"][order_P], points.loss_P[order_P]
    told = tuple(size_P.tolist()), tuple(loss_P.tolist())
    count, wanted = len(np.unique(size_P)), max(SIZES, TERMS + SPARE)
    if count < wanted:
        return Profile(*told, f"{count} sizes, no parabola: it takes {wanted}")
    log_P = np.log(size_P / size_P.mean())
    curve = np.polyfit(log_P, loss_P, TERMS - 1)
    [place] = _lowest(curve[:, None], log_P)
    inside = log_P[0] < place < log_P[-1]
    bounds = None
    if points.losses[0].shape[1] > 1:
        drawn_BP = points.samples_BP(samples)[:, order_P]
        places_B = _lowest(np.polyfit(log_P, drawn_BP.T, TERMS - 1), log_P)
        bounds = interval(size_P.mean() * np.exp(places_B))
    return Profile(
        *told,
        best=float(size_P.mean() * np.exp(place)) if inside else None,
        interval=bounds,
        edge=_edge(place, log_P, loss_P, bounds and np.log(np.array(bounds) / size_P.mean())),
        residuals=tuple((loss_P - np.polyval(curve, log_P)).tolist()),
    )


def _lowest(curve_3B: Numbers, log_P: Numbers) -> Numbers:
    """[B], where parabolas are least between the first and the last place."""
    square_B, slope_B, _ = curve_3B
    first, last = log_P[0], log_P[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        turn_B = np.clip(-slope_B / (2 * square_B), first, last)
    # One that has a maximum is least at one of the ends: at the last if it falls to there.
    end_B = np.where(square_B * (last + first) + slope_B < 0, last, first)
    return np.where(square_B > 0, turn_B, end_B)


def _edge(place: float, log_P: Numbers, loss_P: Numbers, bounds: NDArray[np.float64] | None) -> str:
    if place <= log_P[0] or place >= log_P[-1]:
        which = "smallest" if place <= log_P[0] else "largest"
        return f"at the edge: no size here is better than the {which}"
    if np.argmin(loss_P) in (0, len(loss_P) - 1):
        return "near the edge: the best size here is the last on its side"
    if bounds is not None and (bounds[0] <= log_P[0] + 1e-9 or bounds[1] >= log_P[-1] - 1e-9):
        return "its interval reaches the edge"
    return ""
