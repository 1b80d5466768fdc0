"""Tables of a ladder over its collections: all of them, and the sets of every group."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from lion_sweep.report.layout import Table, best_of, show
from lion_sweep.report.sections import Section, seeds_of
from lion_sweep.report.significance import BM25

Scores = dict[str, list[float | None]]  # by system, a number for every section


def by_ladder(sections: Sequence[Section]) -> dict[str, list[Section]]:
    """The sections of every ladder, in their order."""
    grouped = itertools.groupby(sections, key=lambda section: section.ladder)
    return {ladder: list(parts) for ladder, parts in grouped}


def overviews(sections: Sequence[Section]) -> dict[str, Table]:
    """By ladder of several collections: a column per one outside groups, and the groups' means."""
    return {
        ladder: _overview(ladder, parts)
        for ladder, parts in by_ladder(sections).items()
        if len(parts) > 1
    }


def group_tables(sections: Sequence[Section]) -> list[Table]:
    """Of one ladder: a table per group, a column per set of it and one of the mean."""
    return [_group_table(name, columns, sections) for name, columns in _groups(sections).items()]


def _groups(sections: Sequence[Section]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for column, section in enumerate(sections):
        told = (result.collections.get(section.collection, {}) for result in section.shown)
        for group in sorted({entry["group"] for entry in told if entry.get("group")}):
            groups[group].append(column)
    return dict(groups)


def _scores(sections: Sequence[Section]) -> Scores:
    """Main measures of every cell and BM25. By name, which is the same on every collection."""
    scores: Scores = defaultdict(lambda: [None] * len(sections))
    for column, section in enumerate(sections):
        for cell in section.results:
            score = section.score(cell, section.main)
            scores[section.axes.name(cell)][column] = score.mean if score else None
    scores[BM25] = [section.bm25(section.main) for section in sections]
    return scores


def _mean(
    values: Sequence[float | None], columns: Sequence[int], one_measure: bool = True
) -> float | None:
    """Over all of the columns, or none: means of different sets cannot be compared."""
    known = [value for column in columns if (value := values[column]) is not None]
    return fmean(known) if known and one_measure and len(known) == len(columns) else None


def _measures(sections: Sequence[Section], columns: Sequence[int]) -> list[str]:
    return list(dict.fromkeys(sections[column].main for column in columns))


def _mixed(name: str, measures: Sequence[str]) -> str:
    return f"No mean of {name}: its sets differ in their main measure ({', '.join(measures)})."


def _overview(ladder: str, sections: list[Section]) -> Table:
    groups, scores = _groups(sections), _scores(sections)
    grouped = {column for columns in groups.values() for column in columns}
    alone = [column for column in range(len(sections)) if column not in grouped]
    mains = _measures(sections, range(len(sections)))
    heads = [_head(sections[column], mains) for column in alone]
    below = []
    rows = {name: [values[column] for column in alone] for name, values in scores.items()}
    for group, columns in groups.items():
        heads.append(f"mean of {group} ({len(columns)})")
        of_group = _measures(sections, columns)
        if len(of_group) > 1:
            below.append(_mixed(group, of_group))
        for name, values in scores.items():
            rows[name].append(_mean(values, columns, len(of_group) == 1))
    if groups:
        below.append(
            "A mean is over all sets of its group, the same for every row, or missing; the sets "
            "are in a table of their own."
        )
    cells = [values for name, values in rows.items() if name != BM25]
    return Table(
        title=f"{' or '.join(mains)} on every collection, {ladder} ladder",
        header=["System", *heads],
        rows=[[name, *(show(value, ".4f") for value in values)] for name, values in rows.items()],
        below=["Bold is the best cell of each column.", *below, seeds_of(sections)],
        bold=frozenset(best_of(cells, least=2)),
    )


def _head(section: Section, mains: Sequence[str]) -> str:
    return section.name if len(mains) == 1 else f"{section.name}, {section.main}"


def _group_table(group: str, columns: Sequence[int], sections: Sequence[Section]) -> Table:
    of_group = [sections[column] for column in columns]
    everywhere = range(len(of_group))
    scores, mains = _scores(of_group), _measures(of_group, everywhere)
    lacking: dict[str, list[str]] = {}
    rows, values = [], []
    for name, found in scores.items():
        missing = [of_group[at].name for at in everywhere if found[at] is None]
        if missing:
            lacking[name] = missing
        values.append([*found, _mean(found, everywhere, len(mains) == 1)])
        rows.append([name, *(show(value, ".4f") for value in values[-1])])
    published = _published(group, of_group, mains)
    rows += [[name, *[""] * len(of_group), f"{value:.4f}"] for name, value, _ in published]
    below = [f"No mean: {'; '.join(f'{n} lacks {_list(m)}' for n, m in lacking.items())}."]
    if len(mains) > 1:
        below = [_mixed(group, mains), *(below if lacking else [])]
    return Table(
        title=f"{' or '.join(mains)} on {group}, {of_group[0].ladder} ladder",
        header=[
            "System",
            *(_head(s, mains) for s in of_group),
            f"mean of {group} ({len(columns)})",
        ],
        rows=rows,
        below=[
            *(below if lacking or len(mains) > 1 else []),
            "Bold is the best cell of each column. The mean is over all sets of the table, the "
            "same for every row.",
            *(cited for _, _, cited in published),
            seeds_of(of_group),
        ],
        bold=frozenset(best_of(values[:-1], least=2)),
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _published(
    group: str, sections: Sequence[Section], mains: Sequence[str]
) -> list[tuple[str, float, str]]:
    """Row, mean and source of published systems with a mean over as many sets; never of proxies."""
    if sections[0].ladder != "full" or len(mains) != 1:
        return []
    found = []
    for one in sections[0].choices.references:
        value, sets = one.means.get(group, {}).get(mains[0]), one.sets.get(group, len(sections))
        if value is not None and sets == len(sections):
            found.append((one.row, value, one.cited))
    return found
