"""Search with fewer terms of sparse vectors: a table of scores and costs, and a chart of both."""

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.figures import Rows, Spec, channels, drawn, looks, titled
from lion_sweep.report.layout import HOLE, Table, folded, show
from lion_sweep.report.sections import Section

ALL = "all"  # what the point without any cut is called
COSTS = {"L0 document": "L0_documents", "L0 query": "L0_queries", "Posting FLOPs": "flops"}
SAID = (
    "A point such as 10/100 searches the same vectors again with the 10 largest weights of a query "
    "and the 100 of a passage, for which no model was trained unless its paradigm says so; share "
    "is of the score with all terms."
)


def points(result: CellResult, section: Section) -> Iterator[tuple[str, float | None, Mapping]]:
    """(point, score in the main measure, costs): that with all terms, then those that were asked.

    None where nothing was.
    """
    collection, main = section.collection, section.main
    asked = result.topk.get(collection) or {}
    if asked:
        whole_score = number(result.scores, collection, main)
        yield ALL, whole_score, result.efficiency.get(collection, {})
    for name, told in asked.items():
        yield name, number(told, "scores", main), told


def topk_table(section: Section) -> Table | None:
    """A row per cell, seed and point; None where no cell was searched so."""
    rows = []
    for _, name, result in section.named:
        found = list(points(result, section))
        whole_score = found[0][1] if found else None
        for point, score, costs in found:
            share = score / whole_score if score is not None and whole_score else None
            rows.append([
                name,
                str(result.seed),
                point,
                show(score, ".4f"),
                HOLE if share is None else f"{100 * share:.1f}",
                *(show(number(costs, key), ",.1f") for key in COSTS.values()),
                show(number(costs, "index_bytes"), ",.0f"),
            ])  # fmt: skip
    if not rows:
        return None
    header = ["Cell", "Seed", "Terms", section.main, "Share %", *COSTS, "Index bytes"]
    return folded(
        Table(f"Fewer terms on {section.name}", header, rows, [SAID, section.seeds]),
        keep=["Terms", section.main],
    )


def topk_rows(section: Section) -> Rows:
    """A row for each cell and point: its score over what it multiplies, means of the seeds."""
    by_point: dict[tuple[Cell, str], list[tuple[float, float]]] = {}
    for cell, _, result in section.named:
        for point, score, costs in points(result, section):
            cost = number(costs, "flops")
            if score is not None and cost is not None:
                by_point.setdefault((cell, point), []).append((cost, score))
    look = looks(section)
    return [
        look[section.axes.row_of(cell)]
        | {"name": section.axes.name(cell), "terms": point}
        | {"cost": fmean(cost for cost, _ in told), "score": fmean(score for _, score in told)}
        for (cell, point), told in by_point.items()
    ]


def topk_spec(section: Section) -> Spec:
    """The main measure over posting FLOPs, a line per cell from point to point. Dataset: `topk`."""
    channel, main, cost = channels(section), section.main, "posting FLOPs"
    x: dict[str, Any] = {"field": "cost", "type": "quantitative", "title": cost}
    x |= {"scale": {"type": "symlog", "zero": False}, "axis": {"format": "~s"}}
    y = {"field": "score", "type": "quantitative", "title": main, "scale": {"zero": False}}
    tips = [
        {"field": "name", "title": "cell"},
        {"field": "terms"},
        {"field": "score", "title": main, "format": ".4f"},
        {"field": "cost", "title": cost, "format": ",.4~g"},
    ]
    shared = {"x": x, "y": y, "color": channel["color"]}
    return {
        **titled(section, f"{main} on {section.name} with fewer terms"),
        "data": {"name": "topk"},
        "encoding": shared,
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 1.6},
                "encoding": {"detail": {"field": "name", "type": "nominal"},
                             "strokeDash": channel["strokeDash"]},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"shape": channel["shape"], "tooltip": tips},
            },
        ],
    }  # fmt: skip


def topk_figure(section: Section) -> Spec:
    """The chart with its data."""
    return drawn(topk_spec(section), topk=topk_rows(section))
