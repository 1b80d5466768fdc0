"""Claims tested on a section: which cells they compare, what came out, and a verdict.

A statement comes to contrasts: weighted sums of cells' values, query by query, with weights that
add up to zero. Each is tested like a pair of systems, by signs that are flipped at random, and its
interval is a bootstrap's over the queries. A statement of several parts is supported where all of
them are (an intersection-union test, so its p is the largest, and 1 where one points the other
way); Holm's correction is over the statements of a section. What contradicts a statement counts
after Bonferroni's correction over the statements and its parts.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lion_sweep.config.ladder import CAVEATS
from lion_sweep.evaluation.significance import (
    Array,
    bootstrap_intervals,
    effect_sizes,
    holm,
    randomisation_test,
)
from lion_sweep.report import significance
from lion_sweep.report.axes import Cell
from lion_sweep.report.layout import HOLE, Table, interval, show
from lion_sweep.report.sections import Section, seeds_of
from lion_sweep.report.statements import (
    Best,
    Compare,
    Grows,
    Impossible,
    Selection,
    Statement,
    whole_key,
)

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
NAMED = 24
"""So many cells are named below the table; of more only how many they are. JSON has all."""

Weights = dict[Cell, float]


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells' values, and what a test over the queries says of its mean.

    A part of a claim with `needed` has to be above 0; without, it has to be not above 0.
    """

    said: str
    weights: Weights
    needed: bool = True
    mean: float = 0.0
    low: float = 0.0
    high: float = 0.0
    effect: float | None = None
    p: float = 1.0

    def above(self, times: int) -> bool:
        """Whether its mean is above 0, significantly among so many tests."""
        return self.mean > 0 and self.p * times <= significance.ALPHA

    def below(self, times: int) -> bool:
        """Whether its mean is below 0, significantly among so many tests."""
        return self.mean < 0 and self.p * times <= significance.ALPHA


@dataclass(frozen=True)
class Finding:
    """What a section says about a statement; without contrasts it could not be tested."""

    statement: Statement
    section: Section
    cells: list[Cell]  # that it compares
    missing: list[Cell]
    contrasts: list[Contrast]
    why: str
    main: int = 0  # the contrast that tables show
    p_adjusted: float | None = None
    told: str = UNDECIDED

    @property
    def p(self) -> float | None:
        """Of the claim: the largest of the parts that it needs."""
        needed = [part for part in self.contrasts if part.needed]
        return max((part.p if part.mean > 0 else 1.0 for part in needed), default=None)

    @property
    def verdict(self) -> str:
        """In words; of models that are not those of the real sizes it says so."""
        caveat = CAVEATS.get(self.section.ladder)
        return f"{self.told} ({caveat.verdict})" if caveat else self.told

    @property
    def shown(self) -> Contrast | None:
        """The contrast whose mean is the effect."""
        return self.contrasts[self.main] if self.contrasts else None


def findings(section: Section) -> list[Finding]:
    """All statements that the section was asked to test, tested."""
    if "findings" not in section.memo:
        section.memo["findings"] = _tested(section)
    return section.memo["findings"]


def _tested(section: Section) -> list[Finding]:
    tested = [_posed(section, statement) for statement in section.choices.statements]
    flat = [part for one in tested for part in one.contrasts]
    done = iter(_measured(section, flat))
    tested = [replace(one, contrasts=[next(done) for _ in one.contrasts]) for one in tested]
    known = [one.p for one in tested if one.p is not None]
    adjusted = iter(holm(np.array(known)).tolist() if known else [])
    count = len(known)
    return [_judged(one, next(adjusted), count) if one.contrasts else one for one in tested]


def _measured(section: Section, parts: Sequence[Contrast]) -> list[Contrast]:
    if not parts:
        return []
    values = [section.comparison.values(cell) for cell in parts[0].weights]
    queries = next(len(value_Q) for value_Q in values if value_Q is not None)
    rows = [np.zeros(queries), *(_values(section, part.weights) for part in parts)]
    scores_SQ = np.stack(rows)
    pairs_R2 = np.array([(row, 0) for row in range(1, len(rows))], np.intp)
    chance = significance.SAMPLES, significance.SEED, significance.LEVEL
    ends_R2 = bootstrap_intervals(scores_SQ, *chance, pairs_R2)[1]
    draws = significance.PERMUTATIONS, significance.SEED
    p_R = randomisation_test(scores_SQ, *draws, pairs_R2)
    found = zip(
        parts, scores_SQ[1:].mean(axis=1).tolist(), ends_R2.tolist(),
        effect_sizes(scores_SQ, pairs_R2).tolist(), p_R.tolist(), strict=True,
    )  # fmt: skip
    return [
        replace(part, mean=mean, low=low, high=high, effect=None if d != d else d, p=p)
        for part, mean, (low, high), d, p in found
    ]


def _values(section: Section, weights: Weights) -> Array:
    found = [(section.comparison.values(cell), weight) for cell, weight in weights.items()]
    return np.sum([value_Q * weight for value_Q, weight in found if value_Q is not None], axis=0)


def _posed(section: Section, statement: Statement) -> Finding:
    """The statement with its contrasts, still without numbers."""
    try:
        contrasts = _contrasts(section, statement)
    except Impossible as error:
        return Finding(statement, section, [], [], [], f"{error}.")
    used = {cell for part in contrasts for cell in part.weights}
    cells = [cell for cell in section.axes.ordered if cell in used]
    missing = [cell for cell in cells if section.comparison.values(cell) is None]
    if missing:
        return Finding(statement, section, cells, missing, [], _missing(section, missing))
    return Finding(statement, section, cells, [], contrasts, "", main=len(contrasts) - 1)


def _contrasts(section: Section, statement: Statement) -> list[Contrast]:
    match statement:
        case Compare():
            return _compare(section, statement)
        case Grows():
            return _grows(section, statement)
        case Best():
            return _best(section, statement)
    raise TypeError(f"{type(statement).__name__} is no form of a statement")


def _missing(section: Section, cells: list[Cell]) -> str:
    names: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        hole = section.score(cell, section.main) is None
        why = "without a result" if hole else "without values that can be compared"
        names[why].append(section.axes.name(cell))
    return "; ".join(f"{why}: {', '.join(found)}" for why, found in names.items()) + "."


def _compare(section: Section, statement: Compare) -> list[Contrast]:
    axes = section.axes
    better, than = statement.better.settled(axes), statement.than.settled(axes)
    keys = [key for key in axes.keys if key not in better.values]
    partners = defaultdict(list)
    for cell in filter(than.holds, axes.ordered):
        partners[tuple(cell[key] for key in keys)].append(cell)
    pairs = [
        (cell, other)
        for cell in filter(better.holds, axes.ordered)
        for other in partners[tuple(cell[key] for key in keys)]
        if other != cell
    ]
    if not pairs:
        raise Impossible(f"no cell of {better} has one of {than} that equals it in all else")
    weights: Weights = defaultdict(float)
    for cell, other in pairs:
        weights[cell] += 1 / len(pairs)
        weights[other] -= 1 / len(pairs)
    said = f"{better} less {than}, mean over {len(pairs)} pairs of cells"
    return [Contrast(said, dict(weights))]


def _grows(section: Section, statement: Grows) -> list[Contrast]:
    where, other = statement.where, statement.not_where
    rise = _rise(section, statement.along, where)
    if other is None:
        return [rise]
    fall = replace(_rise(section, statement.along, other), needed=False)
    more: Weights = defaultdict(float, rise.weights)
    for cell, weight in fall.weights.items():
        more[cell] -= weight
    return [rise, fall, Contrast(f"{where} less {other}, rise along {statement.along}", dict(more))]


def _rise(section: Section, along: str, asked: Selection) -> Contrast:
    """From the smallest value to the largest, along a straight line through all of a row."""
    axes = section.axes
    key, where = whole_key(along, axes), asked.settled(axes)
    if not axes.ascend(key):
        raise Impossible(f"{key} has no order here")
    keys, place = [k for k in axes.keys if k != key], axes.values(key).index
    rows = defaultdict(list)
    for cell in sorted(filter(where.holds, axes.ordered), key=lambda cell: place(cell[key])):
        rows[tuple(cell[k] for k in keys)].append(cell)
    long = [row for row in rows.values() if len(row) > 1]
    if not long:
        raise Impossible(f"no cells of {where} differ in {key} alone")
    weights: Weights = {}
    for row in long:
        at = np.arange(len(row)) - (len(row) - 1) / 2
        slope = at / (at**2).sum() * (len(row) - 1) / len(long)
        weights |= dict(zip(row, slope.tolist(), strict=True))
    return Contrast(f"{where}, rise along {along}, mean over {len(long)} rows", weights)


def _best(section: Section, statement: Best) -> list[Contrast]:
    axes, wanted = section.axes, statement.cell.settled(section.axes)
    named = [cell for cell in axes.ordered if wanted.holds(cell)]
    if len(named) != 1:
        found = ", ".join(map(axes.name, named)) or "none"
        raise Impossible(f"{wanted} has to be one cell, and here is {found}")
    others = [cell for cell in axes.ordered if cell != named[0]]
    if not others:
        raise Impossible("there is no other cell")
    # The strongest rival last: its margin is the one to show.
    others.sort(key=lambda cell: score.mean if (score := section.score(cell, section.main)) else 0)
    [best] = named
    return [Contrast(f"less {axes.name(c)}", {best: 1.0, c: -1.0}) for c in others]


def _judged(one: Finding, p_adjusted: float, statements: int) -> Finding:
    """With its verdict, among so many statements, and why."""
    needed = [part for part in one.contrasts if part.needed]
    others = [part for part in one.contrasts if not part.needed]
    tests = statements * len(one.contrasts)
    against = [part for part in needed if part.below(tests)]
    against += [part for part in others if part.above(tests)]
    if against:
        told, why = NOT_SUPPORTED, f"significant against it: {_told(against)}"
    elif p_adjusted <= significance.ALPHA:
        told, why = SUPPORTED, f"significant in the direction claimed: {_told(needed)}"
    else:
        weak = [part for part in needed if not part.above(statements)]
        told, why = UNDECIDED, f"not significant: {_told(weak)}"
    if beside := [part for part in others if part not in against]:
        why += f"; beside it {_told(beside)}"
    return replace(one, p_adjusted=p_adjusted, told=told, why=f"{why}.")


def _told(parts: list[Contrast]) -> str:
    some = sorted(parts, key=lambda part: part.mean)[:3]
    told = [f"{c.said} {c.mean:+.4f} {interval(c.low, c.high, '+.4f')}, p {c.p:.2g}" for c in some]
    more = [f"{len(parts) - 3} more"] if len(parts) > 3 else []
    return "; ".join([*told, *more])


def findings_table(ladder: str, sections: Sequence[Section]) -> Table | None:
    """A row per statement and collection of a ladder; None where none was asked for."""
    found = [one for section in sections for one in findings(section)]
    if not found:
        return None
    order = [one.name for one in sections[0].choices.statements]
    found.sort(key=lambda one: order.index(one.statement.name))
    header = ["Finding", "Collection", "Verdict", "Effect", "95 % interval", "d"]
    header += ["p of the claim", "p (Holm)"]
    rows = []
    for one in found:
        part, tail = one.shown, [HOLE] * 5
        if part:
            tail = [
                f"{part.mean:+.4f}",
                interval(part.low, part.high, "+.4f"),
                show(part.effect, "+.2f"),
                show(one.p, ".2g"),
                show(one.p_adjusted, ".2g"),
            ]
        rows.append([one.statement.title, one.section.name, one.verdict, *tail])
    return Table(
        title=f"Findings, {ladder} ladder",
        header=header,
        rows=rows,
        below=[*_legend(ladder), *_lines(found), seeds_of(sections)],
    )


def _legend(ladder: str) -> list[str]:
    legend = [
        f"Supported: significant in the direction claimed, in all parts of the claim. Not "
        f"supported: significant against it. Undecided: neither, or cells are missing. Effects are "
        f"mean differences over the queries with {100 * significance.LEVEL:.0f} % bootstrap "
        f"intervals, d is Cohen's over the queries, p of the claim the largest of its parts by "
        f"paired randomisation ({significance.PERMUTATIONS:,} permutations), 1 where one points "
        "the other way, with Holm's correction over the statements of a collection, level "
        f"{significance.ALPHA}."
    ]
    if caveat := CAVEATS.get(ladder):
        legend.append(
            f"All verdicts are about the {caveat.models} that ran, and none about models of real "
            "sizes."
        )
    return legend


def _lines(found: Sequence[Finding]) -> list[str]:
    """What was compared, and why the verdict; collections of which that is the same together."""
    where: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in found:
        names = [one.section.axes.name(cell) for cell in one.cells]
        cells = ", ".join(names) if len(names) <= NAMED else f"{len(names)} cells"
        shown = f" Effect: {one.shown.said}." if one.shown else ""
        of = f" Of {cells}." if names else ""
        said = f"{one.verdict}; {one.why}{shown}{of}"
        where[one.statement.title, said].append(one.section.name)
    return [f"{title}, {', '.join(at)}: {said}" for (title, said), at in where.items()]


def as_record(one: Finding) -> dict[str, object]:
    """For programs."""
    name, part = one.section.axes.name, one.shown
    return {
        "statement": one.statement.name,
        "title": one.statement.title,
        "verdict": one.told,
        "of": caveat.models if (caveat := CAVEATS.get(one.section.ladder)) else None,
        "why": one.why,
        "effect": part and part.mean,
        "ci_low": part and part.low,
        "ci_high": part and part.high,
        "cohens_d": part and part.effect,
        "p": one.p,
        "p_holm": one.p_adjusted,
        "cells": [name(cell) for cell in one.cells],
        "missing": [name(cell) for cell in one.missing],
        "parts": [
            {
                "contrast": c.said,
                "weights": {name(cell): weight for cell, weight in c.weights.items()},
                "needed": c.needed,
                "mean": c.mean,
                "ci_low": c.low,
                "ci_high": c.high,
                "cohens_d": c.effect,
                "p": c.p,
            }
            for c in one.contrasts
        ],
    }
