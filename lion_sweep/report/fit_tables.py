"""Tables and JSON of the laws, profiles and forecasts of a section."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lion_sweep.evaluation.forecast import FORMS, Forecast
from lion_sweep.evaluation.isoflop import Profile
from lion_sweep.evaluation.laws import LEVEL, SAMPLES, SIZES, Fit, counted
from lion_sweep.report.collect import number
from lion_sweep.report.fits import Fits, Group, Point
from lion_sweep.report.sections import Section
from lion_sweep.report.tables import HOLE, Table, show

LAWS = ["System", "Law", "Points", "Exponents", "Floor", "RMSE", "Held out"]
ISOFLOP = ["Best size", "Interval", "Best here"]
FORECAST = ["System", "Points", "Better form", "Parameters", "Missed by line", "by sigmoid"]
FLOOR = ("E", "d")
SEEN = (
    f"Intervals are {100 * LEVEL:.0f} % bootstrap percentiles ({SAMPLES} samples) over queries, "
    "and over seeds where a cell has several: with one seed they speak of other queries alone."
)


def fit_tables(section: Section) -> list[Table]:
    """Entropies where there are any; laws, profiles and forecasts where sizes differ."""
    found = section.fits
    if not found.groups:
        return []
    if not found.shown:
        return [_entropy_table(section)]
    many = [group for group in found.groups if group.sizes >= SIZES]
    tables = [_entropy_table(section), _laws_table(section)]
    if many:
        tables += [_isoflop_table(section, many), _forecast_table(section, many)]
    return tables


def _entropy_table(section: Section) -> Table:
    axes, collection = section.axes, section.collection
    rows = []
    for row, name in axes.rows.items():
        rows.append([name])
        for cell in axes.line(row):
            found = [number(r.entropy, collection) for r in section.results[cell]] if cell else []
            known = [value for value in found if value is not None]
            rows[-1].append(show(sum(known) / len(known) if known else None, ".4f") if cell else "")
    return Table(
        title=f"Contrastive entropy on {section.name}",
        header=["", *(axes.said(axes.columns, value) for value in axes.across)],
        rows=rows,
        below=[
            "In nats, lower is better: -log softmax of what is relevant among itself and a fixed "
            "sample of up to 256 passages, with the temperature of training, so that it compares "
            "cells of one paradigm alone. Seeds are averaged."
        ],
    )


def _laws_table(section: Section) -> Table:
    found = section.fits
    rows, below = [], []
    for group in found.groups:
        told = {name: fit for name, fit in group.laws.items() if not fit.refused}
        rows += [[group.name, name, *_law_row(fit)] for name, fit in told.items()]
        if not told:
            points = len(group.points)
            rows.append([group.name, "none", str(points), f"{counted(points)}, no law"])
            rows[-1] += [HOLE] * 3
        below += [f"{group.name}, {name}: {note}." for name in told for note in _notes(told[name])]
        below += [f"{group.name}: {note}." for note in group.notes]
    forms = dict.fromkeys(fit.law for group in found.groups for fit in group.laws.values())
    return Table(
        title=f"Scaling laws of contrastive entropy on {section.name}",
        header=LAWS,
        rows=rows,
        below=[
            "Laws: " + "; ".join(f"{law.name} {law.form}" for law in forms) + ". N is backbone "
            f"parameters {found.counted}, D training queries seen, C useful FLOPs of training; "
            "the compute law is of the best size of each budget. At one budget a larger model "
            "sees fewer queries, and the exponent of a size law there is of both. Held out: mean "
            "error on the largest, by the law of the others. " + SEEN,
            *_refusals(found.groups),
            *below,
        ],
    )


def _notes(fit: Fit) -> list[str]:
    notes = [f"* {' and '.join(fit.edges)} at the edge of what was tried"] if fit.edges else []
    untold = f"the loss does not fall, so {' and '.join(fit.untold)} cannot be told"
    return [*notes, untold] if fit.untold else notes


def _refusals(groups: Sequence[Group]) -> list[str]:
    """A line per reason, with the laws and the groups that it stands for."""
    by_law: dict[tuple[str, str], list[str]] = defaultdict(list)
    for group in groups:
        for name, fit in group.laws.items():
            if fit.refused:
                by_law[name, fit.refused].append(group.name)
    by_reason: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (law, reason), names in by_law.items():
        where = "all" if len(names) == len(groups) > 1 else ", ".join(names)
        by_reason[reason, where].append(law)
    return [f"{', '.join(laws)} ({where}): {why}." for (why, where), laws in by_reason.items()]


def _law_row(fit: Fit) -> list[str]:
    floor = [name for name in fit.law.parameters if name in FLOOR]
    exponents = [name for name in fit.law.parameters if name.islower() and name not in FLOOR]
    return [
        str(fit.points),
        ", ".join(f"{name} {_with_interval(fit, name)}" for name in exponents),
        ", ".join(_with_interval(fit, name) for name in floor),
        f"{fit.rmse:.4f}",
        show(fit.held_out, ".4f"),
    ]


def _with_interval(fit: Fit, name: str) -> str:
    value, bounds = fit.parameters[name], fit.intervals[name]
    between = f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""
    edge = "*" if name in fit.edges else ""
    return show(value, ".3f") + (edge + between if value is not None else "")


def _isoflop_table(section: Section, groups: Iterable[Group]) -> Table:
    rows, below = [], []
    models = list(dict.fromkeys(p.cell.model for group in groups for p in group.points))
    order = [model for model in section.axes.values("model") if model in models]
    for group in groups:
        for budget, found in group.profiles.items():
            of_budget = {p.cell.model: p for p in group.points if p.budget == budget}
            rows.append([group.name, *_profile_row(found, of_budget, order)])
            where = f"{group.name}, {budget}" if budget else group.name
            if said := found.refused or found.edge:
                below.append(f"{where}: {said}.")
    return Table(
        title=f"IsoFLOP profiles of contrastive entropy on {section.name}",
        header=["System", "FLOPs", *(section.axes.said("model", m) for m in order), *ISOFLOP],
        rows=rows,
        below=[
            "A row per budget, entropies by size. Best size: where a parabola through them, over "
            f"the logarithm of backbone parameters ({section.fits.counted}), is least; * where it "
            "is at an edge, or not to be told from one. " + SEEN,
            *below,
        ],
    )


def _profile_row(found: Profile, points: Mapping[str, Point], models: list[str]) -> list[str]:
    flops = [point.flops for point in points.values() if point.flops]
    losses = [show(points[m].loss if m in points else None, ".4f") for m in models]
    best = min(points.values(), key=lambda point: point.loss)
    edge = "*" if found.edge else ""
    return [
        show(sum(flops) / len(flops) if flops else None, ".3g"),
        *losses,
        HOLE if found.refused or found.best is None else _size(found.best) + edge,
        f"[{_size(found.interval[0])}, {_size(found.interval[1])}]" if found.interval else HOLE,
        (HOLE if best.size is None else _size(best.size)) + edge,
    ]


def _size(parameters: float) -> str:
    for unit, said in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{said}"
    return f"{parameters:.0f}"


def _forecast_table(section: Section, groups: Iterable[Group]) -> Table:
    rows, below = [], []
    for group in groups:
        found = group.forecast
        rows.append([group.name, str(found.points), *_forecast_row(found)])
        below += [f"{group.name}: {found.refused}."] if found.refused else []
    forms = "; ".join(f"{name} {form}" for name, form in FORMS.items())
    return Table(
        title=f"From contrastive entropy to {section.main} on {section.name}",
        header=FORECAST,
        rows=rows,
        below=[
            f"Forms: {forms}. Missed: mean error in {section.main} on the cells of each size, by "
            "the form fitted to the other sizes; the better form is the one that misses by less.",
            *below,
        ],
    )


def _forecast_row(found: Forecast) -> list[str]:
    if found.refused:
        return ["none", *[HOLE] * 3]
    parameters = ", ".join(f"{name} {value:.3g}" for name, value in found.parameters.items())
    missed = (show(found.held_out.get(form), ".4f") for form in FORMS)
    return [found.form, parameters, *missed]


def as_json(found: Fits) -> dict[str, Any]:
    """Everything that was fitted, with residuals, and the points that figures are drawn of."""
    return {
        "loss": "contrastive entropy, nats",
        "sizes": f"backbone parameters {found.counted}",
        "measure": found.measure,
        "groups": [_group_json(group) for group in found.groups],
    }


def _group_json(group: Group) -> dict[str, Any]:
    points = [
        {
            "model": point.cell.model,
            "budget": point.budget,
            "seeds": list(point.seeds),
            "N": point.size,
            "D": point.queries,
            "C": point.flops,
            "entropy": point.loss,
            "score": point.score,
        }
        for point in group.points
    ]
    return {
        "system": group.name,
        "points": points,
        "laws": {name: _fit_json(fit) for name, fit in group.laws.items()},
        "isoflop": {budget: _profile_json(found) for budget, found in group.profiles.items()},
        "forecast": vars(group.forecast),
        "notes": list(group.notes),
    }


def _profile_json(found: Profile) -> dict[str, Any]:
    told = {key: value for key, value in vars(found).items() if not key.endswith("_P")}
    return {"sizes": found.size_P, "losses": found.loss_P} | told


def _fit_json(fit: Fit) -> dict[str, Any]:
    told = {key: value for key, value in vars(fit).items() if key != "law"}
    return {"form": fit.law.form} | told | {"rmse": None if fit.refused else fit.rmse}
