"""Scaling figures: a measure against what is across in the tables, a line per row of theirs."""

import io
import math
from typing import TYPE_CHECKING

from lion_sweep.report.axes import MODEL, as_number
from lion_sweep.report.sections import Section

if TYPE_CHECKING:  # matplotlib is imported where it draws, as it may fail, and tables need it not
    from matplotlib.figure import Figure

# Okabe-Ito colours, told apart under the common kinds of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
DECADE = 10  # numbers across that are further apart than this lie on a logarithmic axis


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


def scaling_figure(section: Section, measure: str) -> "Figure":
    """The measure over what is across, with standard deviations; a line breaks at a hole."""
    from matplotlib.figure import Figure

    axes, (title, at) = section.axes, across(section)
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    plot = figure.add_subplot()
    styles = _styles(section)
    for row, (colour, style, marker) in sorted(styles.items(), key=lambda item: item[1][0]):
        scores = [section.score(cell, measure) for cell in axes.line(row)]
        plot.errorbar(
            at,
            [score.mean if score else math.nan for score in scores],
            yerr=[score.std if score and score.std is not None else math.nan for score in scores],
            label=axes.rows[row] if any(scores) else f"{axes.rows[row]} (no result)",
            color=COLOURS[colour % len(COLOURS)],
            linestyle=STYLES[style % len(STYLES)],
            marker=MARKERS[marker % len(MARKERS)],
            elinewidth=1,
            capsize=3,
        )
    baseline = section.bm25(measure)
    if baseline is not None:
        plot.axhline(baseline, color=GREY, linewidth=1.2)
        told, beside = f"BM25\n{baseline:.3f}", ("axes fraction", "data")
        plot.annotate(told, (1.01, baseline), xycoords=beside, color=GREY, va="center")
    low, high = min(at), max(at)
    if low > 0 and (high / low > DECADE or axes.columns == MODEL):
        plot.set_xscale("log")
        plot.minorticks_off()
        # Values that are holes throughout keep their place too.
        plot.set_xlim(low / 1.25, high * 1.25)
    else:
        plot.set_xlim(low - 0.25, high + 0.25) if low == high else plot.margins(x=0.1)
    ticks = axes.across if axes.columns != MODEL else [axes.said(MODEL, m) for m in axes.across]
    if title == "backbone parameters":
        ticks = [f"{tick}\n{size / 1e6:,.3g} M" for tick, size in zip(ticks, at, strict=True)]
    plot.set_xticks(at, ticks)
    plot.set_xlabel(title)
    plot.set_ylabel(measure)
    prefix = "PROXY ladder: " if section.ladder == "proxy" else ""
    plot.set_title(f"{prefix}{measure} on {section.name}")
    plot.set_axisbelow(True)
    plot.grid(axis="y", color="#dddddd", linewidth=0.8)
    plot.spines[["top", "right"]].set_visible(False)
    colours = {colour for colour, _, _ in styles.values()}
    figure.legend(loc="outside lower center", ncols=min(3, len(colours)), frameon=False)
    return figure


def _styles(section: Section) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """(colour, line, marker) of each row: of its loss, its paradigm, and what else it differs in.

    Where there is one loss, what else it differs in has the colour.
    """
    rows = list(section.axes.rows)
    lines, colours, others = (
        list(dict.fromkeys(part)) for part in zip(*((r[0], r[1], r[2:]) for r in rows), strict=True)
    )
    found = {}
    for row in rows:
        line, colour, other = lines.index(row[0]), colours.index(row[1]), others.index(row[2:])
        marker = other if len(others) > 1 else line
        found[row] = (colour if len(colours) > 1 else other, line, marker)
    return found


def render(figure: "Figure", form: str) -> bytes:
    """The figure as the bytes of a 'png' or 'svg' file, the same on every run."""
    import matplotlib as mpl

    out = io.BytesIO()
    # SVG otherwise holds the date and random ids.
    metadata = {"Date": None} if form == "svg" else {}
    with mpl.rc_context({"svg.hashsalt": "scaling"}):
        figure.savefig(out, format=form, dpi=160, metadata=metadata)
    return out.getvalue()
