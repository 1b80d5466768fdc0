"""Scaling laws of a loss over size, data and compute: fitted, with intervals, or refused.

Exponents are found on a grid and refined; what is linear beside them is solved by non-negative
least squares, which needs no starting values and is not misled by numbers of 1e9 and 1e21 (variable
projection, after VPNLS, arXiv 2603.22339). Laws: Hoffmann et al. 2022 (`joint`), Fang et al. 2024
(`entropy`).

Inputs are N parameters, D training queries, C useful FLOPs. Shapes: P points (cells), K linear
terms, E exponents, S seeds of a point, Q queries, B bootstrap samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Numbers = NDArray[np.float64]
Inputs = Mapping[str, Numbers]  # [P] by the letter

SIZES, BUDGETS, SPARE = 4, 3, 2  # a law is printed with so many sizes, budgets, degrees of freedom
SAMPLES, LEVEL, SEED = 200, 0.95, 0
IDENTIFIED = 0.9  # share of the samples in which an exponent must mean something
STARTS = 5  # of the grid that are refined
STEP, ROUNDS, ENOUGH = 1e-5, 60, 1e-9  # of logarithms; of refining; its last gain, as a share
EDGE = 1.05  # an exponent is at its edge where it is no further from it than this factor


@dataclass(frozen=True)
class Exponent:
    """A parameter that the law is not linear in, and the values that are tried, all positive."""

    name: str
    least: float
    most: float
    count: int

    @property
    def grid(self) -> Numbers:
        return np.geomspace(self.least, self.most, self.count)


@dataclass(frozen=True)
class Law:
    """A form that a loss may follow."""

    name: str
    form: str
    letters: str  # its inputs
    exponents: tuple[Exponent, ...]
    parameters: tuple[str, ...]  # all of them, as `told` names them
    terms: Callable[[Sequence[float], Inputs], Numbers]
    """[P, K] what non-negative coefficients are found of, the first being all ones."""
    told: Callable[[Sequence[float], Numbers, Mapping[str, float]], dict[str, float]]
    """Parameters by exponents, coefficients [K] and what inputs were divided by; nan where a
    coefficient of 0 leaves an exponent without a meaning."""


def _powers(name: str, form: str, pairs: Mapping[str, str], count: int) -> Law:
    """E + a falling power of each input; `pairs` are coefficient and exponent by its letter."""
    exponents = tuple(Exponent(pair[1], 0.02, 3.0, count) for pair in pairs.values())

    def terms(chosen: Sequence[float], inputs: Inputs) -> Numbers:
        powers = [inputs[letter] ** -e for letter, e in zip(pairs, chosen, strict=True)]
        return np.stack([np.ones_like(powers[0]), *powers], axis=1)

    def told(
        chosen: Sequence[float], found_K: Numbers, units: Mapping[str, float]
    ) -> dict[str, float]:
        found = {"E": float(found_K[0])}
        for (letter, pair), e, factor in zip(pairs.items(), chosen, found_K[1:], strict=True):
            found[pair[0]] = float(factor * units[letter] ** e)
            found[pair[1]] = e if factor > 0 else np.nan
        return found

    named = ("E", *(letter for pair in pairs.values() for letter in pair))
    return Law(name, form, "".join(pairs), exponents, named, terms, told)


def _fang_terms(chosen: Sequence[float], inputs: Inputs) -> Numbers:
    """With r = a/b: K (n^-r + k/d)^b + d, for which any k leaves K and d linear."""
    r, b, k = chosen
    return np.stack([np.ones_like(inputs["N"]), (inputs["N"] ** -r + k / inputs["D"]) ** b], axis=1)


def _fang_told(
    chosen: Sequence[float], found_K: Numbers, units: Mapping[str, float]
) -> dict[str, float]:
    (r, b, k), (d, factor) = chosen, found_K.tolist()
    found = {"a": r * b, "b": b, "d": d}
    if factor <= 0:
        return {"A": 0.0, "B": 0.0, **found, "a": np.nan, "b": np.nan}
    return {
        "A": units["N"] * factor ** (1 / (r * b)),
        "B": factor ** (1 / b) * k * units["D"],
        **found,
    }


SIZE = _powers("size", "E + A/N^a", {"N": "Aa"}, 40)
COMPUTE = _powers("compute", "E + A/C^c", {"C": "Ac"}, 40)
JOINT = _powers("joint", "E + A/N^a + B/D^b", {"N": "Aa", "D": "Bb"}, 18)
ENTROPY = Law(
    "entropy",
    "[(A/N)^(a/b) + B/D]^b + d",
    "ND",
    (Exponent("a/b", 0.05, 3.0, 9), Exponent("b", 0.1, 5.0, 9), Exponent("B/D", 1e-4, 1e4, 13)),
    ("A", "B", "a", "b", "d"),
    _fang_terms,
    _fang_told,
)


@dataclass(frozen=True)
class Points:
    """What laws are fitted to: cells by their inputs, and their losses by seed and query.

    `losses` holds [S, Q] of each point: all of the same queries, or, where only means are known,
    of one that stands for all.
    """

    inputs: Inputs
    losses: Sequence[Numbers]

    @property
    def loss_P(self) -> Numbers:
        return np.array([loss_SQ.mean() for loss_SQ in self.losses])

    def where(self, kept_P: NDArray[np.bool_]) -> "Points":
        """Some of the points."""
        inputs = {letter: values[kept_P] for letter, values in self.inputs.items()}
        return Points(inputs, [self.losses[place] for place in np.flatnonzero(kept_P).tolist()])

    def samples_BP(self, samples: int = SAMPLES, seed: int = SEED) -> Numbers:
        """[B, P] losses of as many bootstrap samples: queries and seeds drawn with replacement.

        A sample has the same queries at all points. Of S seeds S - 1 are drawn, with which the
        spread is right for few of them (Rao and Wu, 1988); one seed is always that one, and the
        samples then speak of other queries alone.
        """
        rng, queries = np.random.default_rng(seed), self.losses[0].shape[1]
        share_BQ = rng.multinomial(queries, np.full(queries, 1 / queries), samples) / queries
        found = []
        for loss_SQ in self.losses:
            seeds = len(loss_SQ)
            drawn_BS = rng.integers(seeds, size=(samples, max(1, seeds - 1)))
            found.append(np.take_along_axis(share_BQ @ loss_SQ.T, drawn_BS, axis=1).mean(axis=1))
        return np.stack(found, axis=1)


@dataclass(frozen=True)
class Curve:
    """A law with its parameters."""

    law: Law
    chosen: tuple[float, ...]  # its exponents
    linear_K: Numbers
    units: Mapping[str, float]  # what inputs are divided by

    @property
    def parameters(self) -> dict[str, float]:
        return self.law.told(self.chosen, self.linear_K, self.units)

    @property
    def edges(self) -> list[str]:
        """Exponents that are at the edge of what was tried."""
        return [
            one.name
            for one, value in zip(self.law.exponents, self.chosen, strict=True)
            if value <= one.least * EDGE or value >= one.most / EDGE
        ]

    def at(self, inputs: Inputs) -> Numbers:
        """[P] losses that it predicts."""
        scaled = {letter: inputs[letter] / self.units[letter] for letter in self.law.letters}
        return self.law.terms(self.chosen, scaled) @ self.linear_K


def curve(law: Law, inputs: Inputs, loss_P: Numbers, near: Sequence[float] = ()) -> Curve:
    """The law of least squared error; exponents start `near` some, or from the best of a grid."""
    units = {letter: float(np.exp(np.log(inputs[letter]).mean())) for letter in law.letters}
    scaled = {letter: inputs[letter] / units[letter] for letter in law.letters}

    def missed(chosen: Sequence[float]) -> Numbers:
        terms_PK = law.terms(chosen, scaled)
        return terms_PK @ nnls(terms_PK, loss_P)[0] - loss_P

    def error(chosen: Sequence[float]) -> float:
        return float(nnls(law.terms(chosen, scaled), loss_P)[1])

    grid = product(*(one.grid.tolist() for one in law.exponents))
    starts = [near] if near else sorted(grid, key=error)[:STARTS]
    chosen = min((_refined(law, missed, start) for start in starts), key=error)
    return Curve(law, chosen, nnls(law.terms(chosen, scaled), loss_P)[0], units)


def _refined(
    law: Law, missed: Callable[[Sequence[float]], Numbers], start: Sequence[float]
) -> tuple[float, ...]:
    """Exponents of the least squares of what is missed, near these and within what was tried.

    By Levenberg and Marquardt's rule, in logarithms; slopes are differences.
    """
    least_E, most_E = (
        np.log([getattr(one, end) for one in law.exponents]) for end in ("least", "most")
    )

    def at(log_E: Numbers) -> Numbers:
        return missed(np.exp(log_E).tolist())

    log_E, damping, steps_EE = np.log(start), 1e-2, STEP * np.eye(len(least_E))
    missed_P = at(log_E)
    for _ in range(ROUNDS):
        slope_PE = np.stack([at(log_E + step_E) - missed_P for step_E in steps_EE], axis=1) / STEP
        square_EE, down_E = slope_PE.T @ slope_PE, -slope_PE.T @ missed_P
        error = found = missed_P @ missed_P
        while found >= error and damping < 1e8:
            damped_EE = square_EE + damping * np.diag(square_EE.diagonal() + 1e-12)
            tried_E = np.clip(log_E + np.linalg.solve(damped_EE, down_E), least_E, most_E)
            tried_P = at(tried_E)
            found, damping = tried_P @ tried_P, damping * 4
        if found >= error:
            break
        log_E, missed_P, damping = tried_E, tried_P, max(damping / 12, 1e-9)
        if error - found <= ENOUGH * error:
            break
    return tuple(np.exp(log_E).tolist())


@dataclass(frozen=True)
class Fit:
    """A law on some points: what was found, or why nothing is said (`refused`)."""

    law: Law
    points: int
    refused: str = ""
    parameters: Mapping[str, float | None] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    residuals: tuple[float, ...] = ()  # of each point: loss less what the law says, in nats
    held_out: float | None = None  # mean error, in nats, on the largest, which the law has not seen
    held_out_bias: float | None = None  # the same with its sign: loss less prediction
    edges: tuple[str, ...] = ()  # exponents that stopped where nothing more was tried
    untold: tuple[str, ...] = ()  # exponents without a meaning, as the loss does not fall

    @property
    def rmse(self) -> float:
        """Root mean square of the residuals."""
        return float(np.sqrt(np.mean(np.square(self.residuals))))


def refusal(law: Law, inputs: Inputs, budgets: int | None = None) -> str:
    """Why no law is printed of such points; nothing where one is.

    `budgets` is how many there are; None for a law of points that share one.
    """
    points, wanted = len(inputs[law.letters[0]]), []
    sizes = len(np.unique(inputs["N"])) if "N" in law.letters else SIZES
    if sizes < SIZES:
        wanted.append(f"{SIZES} sizes or more, here {sizes}")
    if budgets is not None and budgets < BUDGETS:
        wanted.append(f"{BUDGETS} budgets or more, here {budgets}")
    spare = points - len(law.parameters)
    if spare < SPARE:
        wanted.append(f"{len(law.parameters) + SPARE} points for {len(law.parameters)} parameters")
    return f"{counted(points)}, no law: it takes {'; '.join(wanted)}" if wanted else ""


def counted(points: int) -> str:
    """How many, in words."""
    return f"{points} point{'' if points == 1 else 's'}"


def fit(law: Law, points: Points, budgets: int | None = None, samples: int = SAMPLES) -> Fit:
    """The law of the points, unless it is refused."""
    count, inputs, loss_P = len(points.losses), points.inputs, points.loss_P
    if refused := refusal(law, inputs, budgets):
        return Fit(law, count, refused)
    best = curve(law, inputs, loss_P)
    untold = tuple(name for name, value in best.parameters.items() if np.isnan(value))
    error, bias = held_out(law, points)
    return Fit(
        law,
        count,
        parameters={n: None if np.isnan(v) else v for n, v in best.parameters.items()},
        intervals=_intervals(best, points, samples),
        residuals=tuple((loss_P - best.at(inputs)).tolist()),
        held_out=error,
        held_out_bias=bias,
        edges=() if untold else tuple(best.edges),
        untold=untold,
    )


def _intervals(best: Curve, points: Points, samples: int) -> dict[str, tuple[float, float] | None]:
    """Percentiles of each parameter; None where it cannot be told in many samples, or of means."""
    if points.losses[0].shape[1] < 2:
        return dict.fromkeys(best.law.parameters)
    drawn = points.samples_BP(samples)
    again = [curve(best.law, points.inputs, loss_P, best.chosen).parameters for loss_P in drawn]
    return {name: interval(np.array([one[name] for one in again])) for name in best.law.parameters}


def interval(value_B: Numbers) -> tuple[float, float] | None:
    """The middle `LEVEL` of values, of which some may be nan."""
    known = value_B[np.isfinite(value_B)]
    if len(known) < IDENTIFIED * len(value_B):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high


def held_out(law: Law, points: Points) -> tuple[float | None, float | None]:
    """(mean absolute error, mean error) on the points largest in the law's first input, by the law
    of the others; None where these are fewer than its parameters."""
    first = points.inputs[law.letters[0]]
    kept_P = first < first.max() * (1 - 1e-9)
    rest, largest = points.where(kept_P), points.where(~kept_P)
    if len(rest.losses) < len(law.parameters):
        return None, None
    miss_P = largest.loss_P - curve(law, rest.inputs, rest.loss_P).at(largest.inputs)
    return float(np.abs(miss_P).mean()), float(miss_P.mean())
