"""Charts as Vega-Lite specifications: the page draws them, and papers get them as files.

One specification serves both: vl-convert renders it to SVG, PNG and PDF without a browser, and
brings the scripts that draw it in the page. (Plotly's script alone is five times their size, and
its files for papers take a browser.) A specification names its datasets, see `drawn`.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lion_sweep.cell.names import UNSET
from lion_sweep.config.ladder import CAVEATS
from lion_sweep.report.axes import MODEL, as_number
from lion_sweep.report.sections import Section
from lion_sweep.report.significance import BM25

Spec = dict[str, Any]
Rows = list[dict[str, Any]]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
VERSION = "6.4"  # of Vega-Lite, among those that vl-convert has
# Okabe-Ito colours, told apart under the common kinds of colour blindness; the black is grey, to be
# seen in the dark as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
DASHES: tuple[list[int], ...] = ([], [6, 3], [2, 2], [8, 3, 2, 3])
GREY = "#808080"
DECADE = 10  # numbers that are further apart than this lie on a logarithmic axis
WIDTH, HEIGHT = 560, 380
SCALE = 2  # pixels of a PNG for one of these
BRIEF = 6  # characters that fit beside a point
CHARACTER = 7  # pixels that one takes in a label, with some room
DODGE = 4  # pixels between the intervals of lines at one place

CONFIG = {
    "font": "sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "axisX": {"grid": False},
    "axisY": {"gridColor": "#dddddd", "domain": False, "ticks": False},
    "legend": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "symbolLimit": 40,
        "labelLimit": 320,
    },
    "title": {"fontSize": 14, "fontWeight": "normal", "anchor": "start"},
    "view": {"stroke": None},
}


def across(section: Section) -> tuple[str, list[float]]:
    """What the horizontal axis of figures is called, and where the values across lie on it.

    That is at their numbers, or at their places in the order where one has none.
    """
    axes = section.axes
    title, found = axes.columns, [as_number(value) for value in axes.across]
    if title == MODEL and all(model in axes.sizes for model in axes.across):
        title, found = "backbone parameters", [axes.sizes[model] for model in axes.across]
    elif title == MODEL:
        # Names such as 8b hold the nominal size, in thousand millions of parameters.
        nominal = (as_number(model.removesuffix("b")) for model in axes.across)
        title, found = "backbone size", [size and 1e9 * size for size in nominal]
    known = [number for number in found if number is not None]
    in_order = [float(place) for place in range(1, len(found) + 1)]
    return title, known if len(known) == len(found) else in_order


def looks(section: Section) -> dict[tuple[str, ...], dict[str, str]]:
    """What a row's colour, line and shape stand for: loss, paradigm, and what else it differs in.

    Where there is one loss, what else it differs in has the colour.
    """
    axes, found = section.axes, {}
    one_loss = len({row[1] for row in axes.rows}) == 1
    for row in axes.rows:
        line, colour, *rest = (
            axes.said(key, value)
            for key, value in zip(axes.row_keys, row, strict=True)
            if key in axes.row_keys[:2] or value != UNSET
        )
        other = ", ".join(rest)
        found[row] = {"line": line, "colour": other if one_loss and other else colour}
        found[row]["other"] = "" if one_loss else other
    if any(told["other"] for told in found.values()):
        for told in found.values():
            told["other"] = told["other"] or "not set"
    return found


def points(section: Section, measure: str) -> Rows:
    """A row for each cell: where it lies, its score, and the interval of the main measure.

    Of other measures the ends are a standard deviation between seeds away, where there are several.
    """
    axes, (_, at), look = section.axes, across(section), looks(section)
    found: Rows = []
    intervals = {s.cell: (s.low, s.high) for s in section.comparison.systems}
    place = dict(zip(axes.across, at, strict=True))
    for number, row in enumerate(axes.rows):
        for cell in filter(None, axes.line(row)):
            score = section.score(cell, measure)
            low, high = intervals.get(cell, (None, None))
            if measure != section.main:
                spread = score.std if score and score.std is not None else None
                low = score.mean - spread if score and spread is not None else None
                high = score.mean + spread if score and spread is not None else None
            found.append(
                look[row]
                | {
                    "name": axes.name(cell),
                    "row": axes.rows[row],
                    "at": place[cell[axes.columns]],
                    "across": axes.said(axes.columns, cell[axes.columns]),
                    "score": score.mean if score else None,
                    "low": low if score else None,
                    "high": high if score else None,
                    "dodge": _dodge(number, len(axes.rows)),
                }
            )
    return found


def _dodge(number: int, of: int) -> float:
    """Pixels to the side, so that intervals at one place are told apart; within 40 in all."""
    step = min(DODGE, 40 / of)
    return round(step * (number - (of - 1) / 2), 2)


def colour(title: str, domain: Sequence[str]) -> Spec:
    """The channel of the rows' colours, the same whichever of them are drawn."""
    scale: Spec = {"domain": list(domain)}
    scale |= {"range": list(COLOURS)} if len(domain) <= len(COLOURS) else {"scheme": "tableau20"}
    legend = {"title": title, "symbolOpacity": 1} if len(domain) > 1 else None
    return {"field": "colour", "type": "nominal", "scale": scale, "legend": legend}


def channels(section: Section) -> dict[str, Spec]:
    """Colour, and the dash or the shape of what rows differ in besides."""
    rows = list(looks(section).values())
    one_loss = len({row[1] for row in section.axes.rows}) == 1
    colours, lines, others = (list(dict.fromkeys(r[k] for r in rows)) for k in
                              ("colour", "line", "other"))  # fmt: skip
    dashes = {"domain": lines, "range": [DASHES[n % len(DASHES)] for n in range(len(lines))]}
    # One legend for dashes and shapes, where they tell the same.
    legend = {"title": "paradigm", "symbolFillColor": GREY, "symbolStrokeWidth": 0}
    shaped, shapes = ("other", others) if len(others) > 1 else ("line", lines)
    of_shape = legend | {"title": "paradigm" if shaped == "line" else "settings"}
    if shaped != "line":
        legend = {"title": "paradigm"}
    return {
        "color": colour("settings" if one_loss else "loss", colours),
        "strokeDash": {"field": "line", "type": "nominal", "scale": dashes,
                       "legend": legend if len(lines) > 1 else None},
        "shape": {
            "field": shaped,
            "type": "nominal",
            "scale": {"domain": shapes},
            "legend": of_shape if len(shapes) > 1 else None,
        },
    }  # fmt: skip


def scaling_spec(section: Section, measure: str) -> Spec:
    """The measure over what is across: a line per row, intervals, and BM25; breaks at a hole.

    Datasets: `points`, as `points` gives them, and `bm25`, a row or none.
    """
    axes, (title, at) = section.axes, across(section)
    ticks = [axes.said(axes.columns, v) if axes.columns == MODEL else v for v in axes.across]
    labels: list[Any] = ticks
    if title == "backbone parameters":
        labels = [[t, f"{size / 1e6:,.4g} M"] for t, size in zip(ticks, at, strict=True)]
    low, high = min(at), max(at)
    scale: Spec = {"type": "linear", "nice": False, "padding": 30}
    if low > 0 and (high / low > DECADE or axes.columns == MODEL) and high > low:
        scale["type"] = "log"
    else:
        scale["zero"] = False
    scale["domain"] = [low, high] if high > low else [low - 0.5, high + 0.5]
    axis: Spec = {"values": at, "labelExpr": f"({json.dumps(labels)})[indexof({at}, datum.value)]"}
    if _crowded(at, ticks, logarithmic=scale["type"] == "log"):
        axis |= {"labelAngle": -40, "labelAlign": "right", "labelOverlap": "greedy"}
        axis["labelExpr"] = f"({json.dumps(list(ticks))})[indexof({at}, datum.value)]"
    x = {"field": "at", "type": "quantitative", "title": title, "scale": scale, "axis": axis}
    y = {"field": "score", "type": "quantitative", "title": measure, "scale": {"zero": False}}
    tips = [
        {"field": "name", "title": "cell"},
        {"field": "score", "title": measure, "format": ".4f"},
        {"field": "low", "title": "from", "format": ".4f"},
        {"field": "high", "title": "to", "format": ".4f"},
    ]
    channel, aside = channels(section), {"xOffset": {"expr": "datum.dodge"}}
    known = {"filter": "isValid(datum.score)"}
    line = {"type": "line", "invalid": "break-paths-show-domains", "strokeWidth": 2, **aside}
    dot = {"type": "point", "filled": True, "size": 70, "opacity": 1, **aside}
    return {
        **titled(section, f"{measure} on {section.name}"),
        "data": {"name": "points"},
        "encoding": {"x": x, "color": channel["color"]},
        "layer": [
            *_baseline(measure),
            {
                "mark": line,
                "encoding": {"y": y, "strokeDash": channel["strokeDash"],
                             "detail": {"field": "row", "type": "nominal"}},
            },
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "opacity": 0.55, **aside},
                "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}},
            },
            {
                "transform": [known],
                "mark": dot,
                "encoding": {"y": y, "shape": channel["shape"], "tooltip": tips},
            },
        ],
    }  # fmt: skip


def _crowded(at: Sequence[float], labels: Sequence[str], *, logarithmic: bool) -> bool:
    """Whether labels would touch each other, side by side at these places of an axis."""
    places = [math.log(one) for one in at] if logarithmic else list(at)
    if len(places) < 2 or max(places) == min(places):
        return False
    pixels = (WIDTH - 60) / (max(places) - min(places))
    order = sorted(zip(places, labels, strict=True))
    return any(
        pixels * (after - before) < CHARACTER * (len(one) + len(other)) / 2
        for (before, one), (after, other) in itertools.pairwise(order)
    )


def titled(section: Section, title: str) -> Spec:
    """The beginning of a figure for papers, which says what its ladder is no measure of."""
    caveat = CAVEATS.get(section.ladder)
    words = f"{caveat.title}: {title}" if caveat else title
    return {"$schema": SCHEMA, "width": WIDTH, "height": HEIGHT, "title": words, "config": CONFIG}


def _baseline(measure: str) -> list[Spec]:
    """BM25's line and its name."""
    y = {"field": "score", "type": "quantitative", "title": measure}
    tips = [{"field": "name"}, {"field": "score", "title": measure, "format": ".4f"}]
    free = {"x": {"value": "width"}, "color": {"value": GREY}}
    said = {"type": "text", "align": "right", "baseline": "bottom", "dy": -3, "text": BM25}
    return [
        {
            "data": {"name": "bm25"},
            "mark": {"type": "rule", "strokeWidth": 1.5, "strokeDash": [4, 3]},
            "encoding": {"y": y, "x": None, "color": {"value": GREY}, "tooltip": tips},
        },
        {"data": {"name": "bm25"}, "mark": said, "encoding": {"y": y, **free}},
    ]


def baseline(section: Section, measure: str) -> Rows:
    """BM25's row, or none."""
    score = section.bm25(measure)
    return [] if score is None else [{"name": BM25, "score": score}]


def _brief(section: Section) -> bool:
    """Whether what is across can be written beside every point."""
    axes = section.axes
    return all(len(axes.said(axes.columns, value)) <= BRIEF for value in axes.across)


def tradeoff_spec(section: Section, key: str, title: str) -> Spec:
    """The main measure against a cost, and the front: no other cell is better and costs less.

    Datasets: `points`, with the cost under `cost`, and `bm25`.
    """
    channel, main = channels(section), section.main
    x = {
        "field": "cost",
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False, "padding": 12},
        "axis": {"format": "~s", "tickCount": 5},
    }
    y = {
        "field": "score",
        "type": "quantitative",
        "title": main,
        "scale": {"zero": False, "padding": 8},
    }
    tips = [
        {"field": "name", "title": "cell"},
        {"field": "score", "title": main, "format": ".4f"},
        {"field": "cost", "title": title, "format": ",.6~g"},
    ]
    first = [{"field": "cost"}, {"field": "score", "order": "descending"}]
    best = [{"op": "max", "field": "score", "as": "best"}]
    last = [{"op": "lag", "field": "best", "as": "before"}]
    front = [
        {"filter": "isValid(datum.score) && isValid(datum.cost)"},
        {"window": best, "sort": first, "frame": [None, 0], "ignorePeers": True},
        {"window": last, "sort": first},
        {"filter": "!isValid(datum.before) || datum.score > datum.before"},
    ]
    step = {"type": "line", "interpolate": "step-after", "color": GREY, "opacity": 0.8}
    grey = {"text": {"field": "across"}, "color": {"value": GREY}}
    name = {
        "transform": front[:1],
        "mark": {"type": "text", "dy": -11, "fontSize": 10},
        "encoding": {"x": x, "y": y} | grey,
    }
    return {
        **titled(section, f"{main} on {section.name} against {title}"),
        "data": {"name": "points"},
        "layer": [
            *_baseline(main),
            {"name": "front", "transform": front, "mark": step, "encoding": {"x": x, "y": y}},
            {
                "transform": front[:1],
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"x": x, "y": y, "tooltip": tips, "color": channel["color"],
                             "shape": channel["shape"]},
            },
            *([name] if _brief(section) else []),
        ],
        "usermeta": {"cost": key},
    }  # fmt: skip


def drawn(spec: Spec, **datasets: Rows) -> Spec:
    """The specification with its datasets."""
    return spec | {"datasets": datasets}


def scaling_figure(section: Section, measure: str) -> Spec:
    """The measure over what is across, with its data."""
    rows = points(section, measure)
    return drawn(scaling_spec(section, measure), points=rows, bm25=baseline(section, measure))


def render(spec: Spec) -> dict[str, bytes]:
    """The figure as the bytes of files by their endings, the same on every run.

    But for a PDF with several fonts, in which another process may put them in another order.
    """
    import vl_convert  # here, as a report without figures does without it

    drawing = vl_convert.vegalite_to_svg(json.dumps(finite(spec)), vl_version=VERSION)
    # The library numbers the names within drawings on through a process.
    found = dict.fromkeys(re.findall(r' id="([^"]+)"', drawing))
    names = {name: f"id{number}" for number, name in enumerate(found)}
    drawing = re.sub(
        r'( id="|url\(#|href="#)([^")]+)',
        lambda said: said[1] + names.get(said[2], said[2]),
        drawing,
    )
    return {
        "svg": drawing.encode(),
        "png": vl_convert.svg_to_png(drawing, scale=SCALE),
        # What the pages of a PDF need is listed in any order.
        "pdf": re.sub(
            rb"(?:^ +/\w+ \d+ 0 R\n)+",
            lambda lines: b"".join(sorted(lines[0].splitlines(keepends=True))),
            vl_convert.svg_to_pdf(drawing),
            flags=re.MULTILINE,
        ),
    }


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
