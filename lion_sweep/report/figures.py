"""Scaling figures: a measure against backbone size, one line per paradigm and loss."""

import io
import math
from statistics import median

import matplotlib as mpl
from matplotlib.figure import Figure

from lion_sweep.report.collect import Cell, number
from lion_sweep.report.sections import Section

# Okabe-Ito colours, told apart under the common kinds of colour blindness.
COLOURS = {"cl": "#0072B2", "kd": "#D55E00", "clkd": "#009E73"}
STYLES = {"sparse": ("-", "o"), "dense": ("--", "s")}
GREY = "#666666"


def sizes(section: Section) -> dict[str, float] | None:
    """Backbone parameters by model; None unless they are known for every asked-for size."""
    known: dict[str, float] = {}
    for model in section.models:
        found = [number(r.backbone, "parameters") for r in section.shown if r.axes.model == model]
        counts = [count for count in found if count]
        if not counts:
            return None
        known[model] = median(counts)
    return known


def scaling_figure(section: Section, measure: str) -> Figure:
    """The measure over size with standard deviations; a line breaks where a cell is a hole."""
    parameters = sizes(section)
    # Names such as 8b hold the nominal size, in thousand millions of parameters.
    places = parameters or {model: float(model[:-1]) * 1e9 for model in section.models}
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    # Losses outermost: the legend fills by column, so that each loss gets one of its own.
    for paradigm, loss in sorted(section.rows, key=lambda row: list(COLOURS).index(row[1])):
        cells = [Cell(model, paradigm, loss) for model in section.models]
        scores = [section.score(cell, measure) for cell in cells]
        line, marker = STYLES[paradigm]
        axes.errorbar(
            [places[model] for model in section.models],
            [score.mean if score else math.nan for score in scores],
            yerr=[score.std if score and score.std is not None else math.nan for score in scores],
            label=cells[0].row if any(scores) else f"{cells[0].row} (no result)",
            color=COLOURS[loss],
            linestyle=line,
            marker=marker,
            elinewidth=1,
            capsize=3,
        )
    baseline = section.bm25(measure)
    if baseline is not None:
        axes.axhline(baseline, color=GREY, linewidth=1.2)
        axes.annotate(
            f"BM25\n{baseline:.3f}",
            (1.01, baseline),
            xycoords=("axes fraction", "data"),
            color=GREY,
            va="center",
        )
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(list(places.values()), [_tick(m, parameters) for m in places])
    # Sizes that are holes throughout keep their place too.
    axes.set_xlim(min(places.values()) / 1.25, max(places.values()) * 1.25)
    axes.set_xlabel("backbone parameters" if parameters else "nominal backbone size")
    axes.set_ylabel(measure)
    prefix = "PROXY ladder: " if section.ladder == "proxy" else ""
    axes.set_title(f"{prefix}{measure} on {section.collection}")
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    columns = len({loss for _, loss in section.rows})
    figure.legend(loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _tick(model: str, parameters: dict[str, float] | None) -> str:
    return f"{model}\n{parameters[model] / 1e6:,.3g} M" if parameters else model


def render(figure: Figure, form: str) -> bytes:
    """The figure as the bytes of a 'png' or 'svg' file, the same on every run."""
    out = io.BytesIO()
    # SVG otherwise holds the date and random ids.
    metadata = {"Date": None} if form == "svg" else {}
    with mpl.rc_context({"svg.hashsalt": "scaling"}):
        figure.savefig(out, format=form, dpi=160, metadata=metadata)
    return out.getvalue()
