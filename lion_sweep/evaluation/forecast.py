"""From contrastive entropy to a measure such as nDCG@10: a line or a sigmoid, whichever foresees
sizes that it has not seen better.

Shapes: P points (cells).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

from lion_sweep.evaluation.laws import SIZES, SPARE, Numbers, counted

Predict = Callable[[Numbers], Numbers]
LINE, SIGMOID = "line", "sigmoid"
FORMS = {LINE: "p - q CE", SIGMOID: "t / (1 + exp((CE - m)/w))"}
PARAMETERS = {LINE: ("p", "q"), SIGMOID: ("t", "m", "w")}
TOP = 1.0  # of every measure


@dataclass(frozen=True)
class Forecast:
    """The better form, its parameters, and the mean error of each form on sizes left out."""

    points: int
    refused: str = ""
    form: str = ""
    parameters: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, float] = field(default_factory=dict)  # by form
    residuals: tuple[float, ...] = ()


def forecast(entropy_P: Numbers, score_P: Numbers, size_P: Numbers) -> Forecast:
    """Each size is left out in turn, and all its cells foreseen by the others."""
    points, sizes = len(entropy_P), np.unique(size_P)
    wanted = [f"{SIZES} sizes or more, here {len(sizes)}"] if len(sizes) < SIZES else []
    least = len(PARAMETERS[LINE]) + SPARE
    if points < least:
        wanted.append(f"{least} points for {least - SPARE} parameters")
    if wanted:
        return Forecast(points, f"{counted(points)}, no forecast: it takes {'; '.join(wanted)}")
    forms = [form for form in FORMS if points >= len(PARAMETERS[form]) + SPARE]
    errors = {}
    for form in forms:
        missed = []
        for size in sizes:
            left_P = size_P == size
            _, predict = _fit(form, entropy_P[~left_P], score_P[~left_P])
            missed.append(np.abs(score_P[left_P] - predict(entropy_P[left_P])))
        errors[form] = float(np.concatenate(missed).mean())
    best = min(forms, key=errors.__getitem__)
    found, predict = _fit(best, entropy_P, score_P)
    parameters = dict(zip(PARAMETERS[best], found, strict=True))
    residuals = tuple((score_P - predict(entropy_P)).tolist())
    return Forecast(points, "", best, parameters, errors, residuals)


def _fit(form: str, entropy_P: Numbers, score_P: Numbers) -> tuple[list[float], Predict]:
    if form == LINE:
        slope, start = np.polyfit(entropy_P, score_P, 1).tolist()
        return [start, -slope], lambda one: start + slope * one
    return _sigmoid(entropy_P, score_P)


def _sigmoid(entropy_P: Numbers, score_P: Numbers) -> tuple[list[float], Predict]:
    """By least squares over the middle and the width, with the best top for each of them."""
    spread = max(float(np.ptp(entropy_P)), 1e-6)
    lowest, highest = float(entropy_P.min()), float(entropy_P.max())

    def shape(middle: float, width: float, one_P: Numbers) -> Numbers:
        return 1 / (1 + np.exp(np.clip((one_P - middle) / width, -50, 50)))

    def top(middle: float, width: float) -> float:
        shape_P = shape(middle, width, entropy_P)
        best = float(shape_P @ score_P) / max(float(shape_P @ shape_P), 1e-12)
        return min(max(best, 0.0), TOP)

    def error(chosen: Numbers) -> float:
        middle, width = float(chosen[0]), float(np.exp(chosen[1]))
        missed_P = score_P - top(middle, width) * shape(middle, width, entropy_P)
        return float(missed_P @ missed_P)

    starts = [
        np.array([middle, np.log(width)])
        for middle in np.linspace(lowest - 2 * spread, highest + 2 * spread, 15)
        for width in spread * np.geomspace(0.1, 10, 9)
    ]
    settings = {"xatol": 1e-6, "fatol": 1e-14, "maxfev": 600}
    best = minimize(error, min(starts, key=error), method="Nelder-Mead", options=settings).x
    middle, width = float(best[0]), float(np.exp(best[1]))
    most = top(middle, width)
    return [most, middle, width], lambda one: most * shape(middle, width, one)
