"""What the page shows of each section, as JSON: systems with their scores, marks and costs.

Numbers are those of the result files; the mean over the seeds where a system has several.

Shapes: S systems, Q queries.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from lion_sweep.cell.names import short
from lion_sweep.config.schema import AXES
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.figures import across, looks
from lion_sweep.report.page.traces import thinned
from lion_sweep.report.sections import Section
from lion_sweep.report.significance import LEVEL, System, read_per_query
from lion_sweep.report.topk import topk_rows

PER_QUERY_BYTES = 6 << 20
"""Of all values per query on a page together; of more, queries are left out evenly."""
STEPS = 2**16 - 1  # a value is stored in as many parts of the scale

Holes = Mapping[tuple[str, Cell], str]  # why a cell of a ladder has no result


@dataclass(frozen=True)
class Cost:
    """A figure of a system: its key in the JSON, what it is called, and how it is read."""

    key: str
    title: str
    said: str


COSTS = (
    Cost("flops", "FLOPs spent", "useful FLOPs of training: forward and backward over real tokens"),
    Cost("L0_documents", "L0 passages", "mean number of non-zero terms of a passage"),
    Cost("L0_queries", "L0 queries", "mean number of non-zero terms of a query"),
    Cost("index_bytes", "Index bytes", "size of what search reads"),
    Cost("latency", "Search ms/query", "time of the search stage over its queries, on its machine"),
    Cost("hours", "Hours", "wall-clock hours of all stages that the cell is made of"),
    Cost("entropy", "Entropy (nats)", "contrastive entropy over a fixed set of candidates"),
)

TRADED = ("flops", "L0_documents", "index_bytes", "latency")  # that scores are drawn against


def costs(result: CellResult, collection: str) -> dict[str, float]:
    """The figures of one result that are known."""
    efficiency = result.efficiency.get(collection, {})
    seconds = [number(result.stages, stage, "seconds") for stage in result.stages]
    known = [value for value in seconds if value is not None]
    search = number(efficiency, "search_seconds")
    queries = number(result.collections, collection, "queries")
    found = {
        "flops": number(result.ledger, "train", "spent", "useful_flops"),
        "L0_documents": number(efficiency, "L0_documents"),
        "L0_queries": number(efficiency, "L0_queries"),
        "index_bytes": number(efficiency, "index_bytes"),
        "latency": 1000 * search / queries if search is not None and queries else None,
        "hours": sum(known) / 3600 if known else None,
        "entropy": number(result.entropy, collection),
    }
    return {key: value for key, value in found.items() if value is not None}


def costs_of(results: Sequence[CellResult], collection: str) -> dict[str, float]:
    """Those of a cell: means over the seeds that tell them."""
    told = [costs(result, collection) for result in results]
    found = {cost.key: [one[cost.key] for one in told if cost.key in one] for cost in COSTS}
    return {key: fmean(values) for key, values in found.items() if values}


def section_data(section: Section, holes: Holes, per_query: int) -> dict[str, Any]:
    """One section; `per_query` is how many queries of each system may be told."""
    axes, comparison = section.axes, section.comparison
    keys = [key for key in axes.keys if len(axes.values(key)) > 1]
    names = short(axes.keys)
    title, at = across(section)
    place = dict(zip(axes.across, at, strict=True))
    known = {system.cell: system for system in comparison.systems}
    marks, look = _marks(section), looks(section)
    systems: list[dict[str, Any]] = []
    for cell in axes.ordered:
        results, system = section.results.get(cell, []), known.get(cell)
        figures = costs_of(results, section.collection)
        scores = {measure: section.score(cell, measure) for measure in section.measures}
        systems.append(
            look[axes.row_of(cell)]
            | {
                "name": axes.name(cell),
                "row": axes.rows[axes.row_of(cell)],
                "across": axes.said(axes.columns, cell[axes.columns]),
                "at": place[cell[axes.columns]],
                "axes": {key: cell[key] for key in keys},
                "ids": [result.id for result in results],
                "seeds": [result.seed for result in results],
                "scores": {m: [s.mean, s.std, s.n] for m, s in scores.items() if s},
                "interval": [system.low, system.high] if system else None,
                "costs": figures,
                "marks": marks.get(cell, []),
                "hole": None if results else holes.get((section.ladder, cell), "not begun"),
            }
        )
    baseline = known.get(None)
    return {
        "ladder": section.ladder,
        "name": section.name,
        "collection": section.collection,
        "own": any(result.data == section.collection for result in section.shown),
        "texts": texts_of(section.collection, section.shown[0]) if section.shown else None,
        "measures": section.measures,
        "columns": {
            "key": axes.columns,
            "title": title,
            "values": [[axes.said(axes.columns, v), place[v]] for v in axes.across],
        },
        "axes": [
            {
                "key": key,
                "title": names[key],
                "values": [[v, _said(section, key, v)] for v in axes.values(key)],
            }
            for key in keys
        ],
        "constant": [[names[k], _said(section, k, axes.values(k)[0])] for k in axes.keys
                     if k not in keys and axes.cells],
        "costs": [vars(c) for c in COSTS if any(c.key in s["costs"] for s in systems)],
        "systems": systems,
        "bm25": {m: v for m in section.measures if (v := section.bm25(m)) is not None},
        "bm25_interval": [baseline.low, baseline.high] if baseline else None,
        "tests": {
            "queries": comparison.queries,
            "words": comparison.tested,
            "level": LEVEL,
        },
        "notes": list(dict.fromkeys([*section.notes, *comparison.notes])),
        "topk": topk_rows(section),
        "per_query": _per_query(section, per_query),
    }  # fmt: skip


def texts_of(collection: str, result: CellResult) -> str:
    """What the texts of a collection are known as: two of one name may hold other ones."""
    return f"{collection} {result.checksum(collection)}"


def _said(section: Section, key: str, value: str) -> str:
    return section.axes.titles.get((key, value), value) if key in AXES else value


def best(section: Section) -> System | None:
    """The cell with the highest mean of those that were compared."""
    cells = [system for system in section.comparison.systems if system.cell is not None]
    return max(cells, key=lambda system: system.mean, default=None)


def _marks(section: Section) -> dict[Cell | None, list[str]]:
    """What the tests say of each cell: 'best', 'tied' with it, 'above' or 'below' BM25."""
    found: dict[Cell | None, list[str]] = {}
    if top := best(section):
        found[top.cell] = ["best"]
        for pair in section.comparison.against(top.cell):
            if pair.b.cell is not None and not pair.significant:
                found.setdefault(pair.b.cell, []).append("tied")
    if any(system.cell is None for system in section.comparison.systems):
        for pair in section.comparison.against(None):
            if pair.significant:
                word = "below" if pair.difference > 0 else "above"
                found.setdefault(pair.b.cell, []).append(word)
    return found


def share_of_queries(sections: Sequence[Section]) -> int:
    """How many queries of each system fit `PER_QUERY_BYTES`."""
    systems = sum(len(section.comparison.systems) for section in sections)
    return max(2, PER_QUERY_BYTES // (2 * max(1, systems)))


def _per_query(section: Section, most: int) -> dict[str, Any] | None:
    """Values of the main measure by system, in parts of a scale; None where there are none."""
    systems, collection, main = section.comparison.systems, section.collection, section.main
    by_cell: dict[Cell | None, list[dict[str, float]]] = {}
    # The newest first: BM25's values are theirs.
    for cell, _, result in sorted(section.named, key=lambda told: -told[2].modified):
        path = result.folder / "per_query" / f"{collection}.json"
        _keep(by_cell, cell, path, main, number(result.scores, collection, main))
        if None not in by_cell:
            path = path.with_name(f"{collection}.bm25.json")
            _keep(by_cell, None, path, main, number(result.bm25, collection, main))
    queries = next((set(by_cell[s.cell][0]) for s in systems if s.cell in by_cell), set())
    picked = sorted(queries)
    picked = [picked[place] for place in thinned(len(picked), most)]
    told, scale = {}, 1.0
    for system in systems:
        values = [one for one in by_cell.get(system.cell, []) if one.keys() == queries]
        if values:
            told[system.name] = [fmean(one[query] for one in values) for query in picked]
            scale = max(scale, *map(abs, told[system.name]))
    if len(told) < 2 or len(picked) < 2:
        return None
    parts = {
        name: np.rint(np.array(values) / scale * STEPS).clip(0, STEPS).astype("<u2")
        for name, values in told.items()
    }
    return {
        "queries": picked,
        "of": len(queries),
        "scale": scale / STEPS,
        "values": {name: base64.b64encode(v.tobytes()).decode() for name, v in parts.items()},
    }


def _keep(
    found: dict[Cell | None, list[dict[str, float]]],
    cell: Cell | None,
    path: Path,
    measure: str,
    mean: float | None,
) -> None:
    if values := read_per_query(path, measure, mean):
        found.setdefault(cell, []).append(values)
