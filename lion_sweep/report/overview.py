"""One table of a ladder's cells on every collection, where there are several."""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean

from lion_sweep.report.axes import Cell
from lion_sweep.report.sections import Section
from lion_sweep.report.significance import BM25
from lion_sweep.report.tables import Table, show


def overviews(sections: Sequence[Section]) -> dict[str, Table]:
    """A table by ladder: a row per cell and BM25, a column per collection and group's mean."""
    by_ladder = groupby(sections, key=lambda section: section.ladder)
    found = [(ladder, list(parts)) for ladder, parts in by_ladder]
    return {ladder: _overview(ladder, parts) for ladder, parts in found if len(parts) > 1}


def _overview(ladder: str, sections: list[Section]) -> Table:
    groups: dict[str, list[int]] = {}
    for column, section in enumerate(sections):
        for name in sorted(section.groups):
            groups.setdefault(name, []).append(column)
    rows: list[tuple[str, list[float | None]]] = []
    names: dict[str, list[Cell | None]] = {}  # by name, which is the same on every collection
    for column, section in enumerate(sections):
        for cell in section.results:
            of_name = names.setdefault(section.axes.name(cell), [None] * len(sections))
            of_name[column] = cell
    for name, cells in names.items():
        rows.append((name, [_mean(s, c) for s, c in zip(sections, cells, strict=True)]))
    rows.append((BM25, [section.bm25(section.main) for section in sections]))
    values = [
        scores + [_group(scores, columns) for columns in groups.values()] for _, scores in rows
    ]
    best = set()
    for column, of_column in enumerate(zip(*values, strict=True), start=1):
        rounded = [None if value is None else round(value, 4) for value in of_column]
        known = [value for value in rounded if value is not None]
        best |= {
            (row, column) for row, value in enumerate(rounded) if known and value == max(known)
        }
    means = [f"mean of {name} ({len(columns)})" for name, columns in groups.items()]
    mains = list(dict.fromkeys(section.main for section in sections))
    heads = [s.name if len(mains) == 1 else f"{s.name}, {s.main}" for s in sections]
    return Table(
        title=f"{' or '.join(mains)} on every collection, {ladder} ladder",
        header=["System", *heads, *means],
        rows=[
            [name, *(show(value, ".4f") for value in of_row)]
            for (name, _), of_row in zip(rows, values, strict=True)
        ],
        below=["A mean is over all collections of its group, or missing."] if groups else [],
        bold=frozenset(best),
    )


def _mean(section: Section, cell: Cell | None) -> float | None:
    score = section.score(cell, section.main) if cell else None
    return None if score is None else score.mean


def _group(scores: list[float | None], columns: list[int]) -> float | None:
    known = [value for column in columns if (value := scores[column]) is not None]
    return fmean(known) if len(known) == len(columns) else None
