"""The figures that papers get as files: what the page draws, and scaling laws and profiles."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lion_sweep.report import law_figures
from lion_sweep.report.figures import (
    Rows,
    Spec,
    baseline,
    drawn,
    looks,
    points,
    scaling_figure,
    titled,
    tradeoff_spec,
)
from lion_sweep.report.page import charts, traces
from lion_sweep.report.page.content import COSTS, TRADED, Cost, costs_of
from lion_sweep.report.sections import Section
from lion_sweep.report.topk import topk_figure, topk_rows

ALIKE = 1.01  # costs that are no further apart tell nothing
X, Y = "useful_flops", "MRR@10"  # of curves of training: what all losses and paradigms share
STEPS = 400  # most of a curve that are drawn


def figures(sections: Sequence[Section]) -> Iterator[tuple[str, Callable[[], Spec]]]:
    """(name of the files without their ending, what makes the specification), of all with data."""
    for section in sections:
        stem = f"{section.ladder}-{section.name}"
        for measure in section.measures:
            yield _name(stem, measure), partial(scaling_figure, section, measure)
        for cost in _told(section):
            yield _name(stem, section.main, "against", cost.key), partial(_against, section, cost)
        if topk_rows(section):
            yield _name(stem, section.main, "fewer", "terms"), partial(topk_figure, section)
        for group in law_figures.drawable(section):
            made = partial(law_figures.profiles, section, group)
            yield _name(stem, "entropy", group.name), made
    for ladder in dict.fromkeys(section.ladder for section in sections):
        here = [section for section in sections if section.ladder == ladder]
        if len(here) > 1:
            yield _name(ladder, "collections"), partial(_collections, here)
        own = next((s for s in here if s.shown and s.shown[0].data == s.collection), here[0])
        if any((result.folder / traces.POINTS).is_file() for result in own.shown):
            yield _name(ladder, "training"), partial(_curves, own)


def _name(*words: str) -> str:
    return re.sub(r"[^\w.@-]", "-", "-".join(words))


def _told(section: Section) -> list[Cost]:
    """The costs in which cells differ."""
    known = [costs_of(found, section.collection) for found in section.results.values() if found]
    spent = {
        cost: [told[cost.key] for told in known if cost.key in told]
        for cost in COSTS
        if cost.key in TRADED
    }
    return [cost for cost, values in spent.items() if values and max(values) > ALIKE * min(values)]


def _against(section: Section, cost: Cost) -> Spec:
    """The main measure against a cost."""
    by_name = {
        section.axes.name(cell): costs_of(found, section.collection).get(cost.key)
        for cell, found in section.results.items()
    }
    rows = [row | {"cost": by_name[row["name"]]} for row in points(section, section.main)]
    spec = tradeoff_spec(section, cost.key, cost.title)
    return drawn(spec, points=rows, bm25=baseline(section, section.main))


def _collections(sections: Sequence[Section]) -> Spec:
    """Scores by collection, in the main measure of each."""
    names, mains = [s.name for s in sections], dict.fromkeys(s.main for s in sections)
    rows = charts.set_rows(sections)
    spec = charts.sets_spec(names, " or ".join(mains))
    spec["height"] = charts.ROW * len({row["name"] for row in rows})
    whole = titled(sections[0], "Scores by collection") | {"height": spec["height"]}
    return spec | whole | drawn(spec, sets=rows)


def _curves(section: Section) -> Spec:
    """Evaluations on the way of all cells of a ladder."""
    rows: Rows = []
    look = looks(section)
    for cell, name, result in section.named:
        told = traces.columns(traces.json_lines(result.folder / traces.POINTS), STEPS)
        across = section.axes.said(section.axes.columns, cell[section.axes.columns])
        for x, y in zip(told.get(X, []), told.get(Y, []), strict=False):
            own = {"name": f"{name}, seed {result.seed}", "x": x, "y": y, "across": across}
            rows.append(look[section.axes.row_of(cell)] | own)
    spec = charts.curves_spec(section)
    spec["encoding"]["x"]["title"] = "useful FLOPs of training"
    spec["encoding"]["y"]["title"] = f"{Y} among a few passages"
    # At its end a curve says of which size, or what else is across, it is.
    last = {"op": "max", "field": "x", "as": "last"}
    ends = [{"joinaggregate": [last], "groupby": ["name"]}, {"filter": "datum.x == datum.last"}]
    mark = {"type": "text", "align": "left", "dx": 5, "fontSize": 10}
    label = {"transform": ends, "mark": mark, "encoding": {"text": {"field": "across"}}}
    line = {
        "mark": spec.pop("mark"),
        "encoding": {"strokeDash": spec["encoding"].pop("strokeDash")},
    }
    spec |= titled(section, "Evaluations while training") | {"layer": [line, label]}
    return drawn(spec, curve=rows)
