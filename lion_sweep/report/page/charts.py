"""Charts that only the page draws, as its datasets depend on what is chosen there.

Titles stand beside the charts, and the scripts fill in those of the axes where they change.
"""

from collections.abc import Sequence

from lion_sweep.report.figures import CONFIG, GREY, HEIGHT, SCHEMA, Rows, Spec, channels
from lion_sweep.report.sections import Section
from lion_sweep.report.significance import BM25

BLUE, ORANGE = "#0072B2", "#D55E00"
ROW = 22  # pixels of a row of the map of sets


def _chart(data: str) -> Spec:
    return {"$schema": SCHEMA, "height": HEIGHT, "data": {"name": data}, "config": CONFIG}


def curves_spec(section: Section) -> Spec:
    """A line per cell over its training. Dataset `curve`: name, x, y, and what a row looks like."""
    channel = channels(section)
    dash = channel["strokeDash"]
    dash |= {"legend": dash["legend"] and {"title": "paradigm"}}
    return _chart("curve") | {
        "mark": {"type": "line", "strokeWidth": 1.6, "invalid": "break-paths-show-domains"},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "axis": {"format": "~s"}},
            "y": {"field": "y", "type": "quantitative", "scale": {"zero": False}},
            "color": channel["color"],
            "strokeDash": dash,
            "detail": {"field": "name", "type": "nominal"},
            "tooltip": [
                {"field": "name", "title": "cell"},
                {"field": "x", "format": ",.6~g"},
                {"field": "y", "format": ".5~g"},
            ],
        },
    }


def one_curve_spec() -> Spec:
    """The same of one cell. Dataset `curve`: x and y."""
    return _chart("curve") | {
        "height": 220,
        "mark": {"type": "line", "color": BLUE, "point": {"size": 24, "filled": True}},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "axis": {"format": "~s"}},
            "y": {"field": "y", "type": "quantitative", "scale": {"zero": False}},
            "tooltip": [
                {"field": "x", "format": ",.6~g"},
                {"field": "y", "format": ".5~g"},
            ],
        },
    }


def wins_spec() -> Spec:
    """Differences of two systems by query, the largest first.

    Dataset `differences`: query, a, b, difference, rank and the next rank.
    """
    sign = {"condition": {"test": "datum.difference > 0", "value": BLUE}, "value": ORANGE}
    return _chart("differences") | {
        "height": 260,
        "mark": "bar",
        "encoding": {
            "x": {"field": "rank", "type": "quantitative", "title": "queries, sorted",
                  "scale": {"nice": False, "zero": True}},
            "x2": {"field": "next"},
            "y": {"field": "difference", "type": "quantitative"},
            "y2": {"datum": 0},
            "color": sign,
            "tooltip": [
                {"field": "query"},
                {"field": "difference", "format": "+.4f"},
                {"field": "a", "format": ".4f"},
                {"field": "b", "format": ".4f"},
            ],
        },
    }  # fmt: skip


def sets_spec(names: Sequence[str], measure: str) -> Spec:
    """Scores by set: a row per system, coloured by the distance to BM25.

    Dataset `sets`: name, set, score, gap (to BM25).
    """
    gap = {
        "field": "gap",
        "type": "quantitative",
        "title": f"less {BM25}",
        "scale": {"scheme": "blueorange", "reverse": True, "domainMid": 0},
        "legend": {"orient": "top", "format": "+.2f", "gradientLength": 200},
    }
    tips = [
        {"field": "name", "title": "cell"},
        {"field": "set"},
        {"field": "score", "title": measure, "format": ".4f"},
        {"field": "gap", "title": f"less {BM25}", "format": "+.4f"},
    ]
    dark = {"condition": {"test": "isValid(datum.gap)", "value": "#111111"}, "value": GREY}
    return _chart("sets") | {
        "height": ROW,  # of each row: the page knows how many are shown
        "encoding": {
            "x": {"field": "set", "type": "nominal", "sort": list(names), "title": None,
                  "axis": {"orient": "top", "labelAngle": -40, "labelLimit": 140, "grid": False,
                           "domain": False, "ticks": False}},
            "y": {"field": "name", "type": "nominal", "sort": None, "title": None,
                  "axis": {"labelLimit": 260, "grid": False}},
        },
        "layer": [
            {
                "mark": {"type": "rect", "invalid": None},
                "encoding": {"color": gap, "tooltip": tips},
            },
            {
                "transform": [{"filter": "isValid(datum.score)"}],
                "mark": {"type": "text", "fontSize": 11},
                "encoding": {"color": dark, "tooltip": tips,
                             "text": {"field": "score", "format": ".3f"}},
            },
        ],
    }  # fmt: skip


def set_rows(sections: Sequence[Section]) -> Rows:
    """A row for each cell and set of the sections, in their main measure."""
    found = []
    for section in sections:
        baseline = section.bm25(section.main)
        for cell in section.results:
            if score := section.score(cell, section.main):
                gap = None if baseline is None else score.mean - baseline
                found.append({"name": section.axes.name(cell), "set": section.name,
                              "score": score.mean, "gap": gap})  # fmt: skip
    return found
