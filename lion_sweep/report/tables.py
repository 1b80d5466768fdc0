"""Tables of a section: scaling, significance, details; what comes of costs, provenance."""

from collections import defaultdict

from lion_sweep.report.axes import MODEL, Cell
from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.costs import by_result, compute_table, efficiency_table
from lion_sweep.report.health import health_table
from lion_sweep.report.layout import HOLE, Table, folded, interval, show
from lion_sweep.report.overview import overviews
from lion_sweep.report.references import published
from lion_sweep.report.sections import AGREEMENT, Score, Section
from lion_sweep.report.significance import ALPHA, BH, BM25, HOLM, LEVEL, MAXT, SAMPLES, Pair, System
from lion_sweep.report.teachers import teacher_tables
from lion_sweep.report.topk import topk_table

__all__ = [
    "HOLE", "Table", "compute_table", "detail_tables", "details_table", "efficiency_table",
    "holes_line", "overviews", "provenance_tables", "scaling_table", "show", "significance_table",
]  # fmt: skip
UP, DOWN, LEVEL_WITH_BEST, ABOVE_BM25, BELOW_BM25 = "↑", "↓", "≈", "†", "‡"
DETAILS = ["Gain", "p", "Exact top 10 %", "Exact hits %", "Encode s", "Search s", "All stages s"]
SIGNIFICANCE = ["Seeds", "Interval", "Above", "Below", "Less BM25", "d, BM25"]
STEP = ["Step", "Interval, step", "d, step", "p, step"]
SHORT = {HOLM: "Holm", MAXT: "MaxT", BH: "BH"}


def scaling_table(section: Section, measure: str) -> Table:
    """Rows by column, BM25, and published systems; bold marks the best cell of all, ties included.

    In the main measure numbers have intervals, or deviations over seeds, and marks of what differs
    significantly. Where no cell was asked for there is nothing, not the mark of a hole.
    """
    axes, baseline = section.axes, section.bm25(measure)
    marks = _marks(section) if measure == section.main else {}
    lines = _mark_lines(section, marks) if marks else []
    systems = {one.cell: one for one in section.comparison.systems} if marks else {}
    rows, means = [], []
    for row, name in axes.rows.items():
        cells = axes.line(row)
        scores = [section.score(cell, measure) for cell in cells]
        means.append([score.mean if score else None for score in scores])
        rows.append([name])
        for cell, score in zip(cells, scores, strict=True):
            if cell is None:
                rows[-1].append("")
                continue
            signs = "".join(mark for mark, marked in marks.items() if cell in marked)
            rows[-1].append(" ".join([_score(score, systems.get(cell)), signs]).strip())
    beside = published(section.choices.references, section.ladder, section.collection, measure)
    rows.append([BM25, *[show(baseline, ".4f")] * len(axes.across)])
    rows += [[one.row, *[show(value, ".4f")] * len(axes.across)] for one, value in beside]
    below = [*lines, holes_line(section, measure)]
    below += [f"{BM25} is one number, the same in every column.", *section.notes, section.seeds]
    scored = [section.score(cell, measure) for cell in section.results]
    if any(score and score.n > 1 for score in scored):
        below.append("± is the sample standard deviation over n seeds.")
    below += [one.cited for one, _ in beside]
    if measure == section.main:
        below += section.comparison.notes
    return Table(
        title=f"{measure} on {section.name}",
        header=["", *(axes.said(axes.columns, value) for value in axes.across)],
        rows=rows,
        below=below,
        bold=_best_of_all(means),
    )


def _best_of_all(means: list[list[float | None]]) -> frozenset[tuple[int, int]]:
    """Positions of the best cell, where there are two to choose from; rounded as printed."""
    known = {
        (row, column): round(value, 4)
        for row, values in enumerate(means)
        for column, value in enumerate(values, start=1)
        if value is not None
    }
    best = max(known.values(), default=0.0)
    return frozenset(at for at, value in known.items() if value == best and len(known) > 1)


def _score(score: Score | None, system: System | None) -> str:
    if score is None:
        return HOLE
    if score.std is not None:
        return f"{score.mean:.4f} ± {score.std:.4f} (n={score.n})"
    told = f"{score.mean:.4f}"
    return f"{told} {interval(system.low, system.high, '.3f')}" if system else told


def _marks(section: Section) -> dict[str, set[Cell]]:
    """Cells by what differs significantly about them, or from the best does not."""
    comparison = section.comparison
    cells = [system.cell for system in comparison.systems if system.cell]
    if not cells:
        return {}
    best = max(comparison.systems, key=lambda s: (s.cell is not None, s.mean)).cell
    pairs = {cell: comparison.pair(cell, None) for cell in cells}
    steps = {cell: section.step(cell) for cell in cells}
    level = {cell: comparison.pair(cell, best) for cell in cells if cell != best}
    return {
        UP: {cell for cell, pair in steps.items() if pair and pair.above},
        DOWN: {cell for cell, pair in steps.items() if pair and pair.below},
        LEVEL_WITH_BEST: {cell for cell, pair in level.items() if pair and not pair.significant},
        ABOVE_BM25: {cell for cell, pair in pairs.items() if pair and pair.above},
        BELOW_BM25: {cell for cell, pair in pairs.items() if pair and pair.below},
    }


def _mark_lines(section: Section, marks: dict[str, set[Cell]]) -> list[str]:
    """What the marks mean, in words. One that all cells would bear is a sentence instead."""
    before, compared = _before(section), [one.cell for one in section.comparison.systems]
    cells = {cell for cell in compared if cell}
    words = {
        UP: f"significantly above the {before}",
        DOWN: f"significantly below the {before}",
        LEVEL_WITH_BEST: "not significantly different from the best cell",
        ABOVE_BM25: f"significantly above {BM25}",
        BELOW_BM25: f"significantly below {BM25}",
    }
    lines = ["Bold is the best cell; in brackets 95 % intervals over the queries."]
    if any(section.step(cell) for cell in section.results) and not marks[UP] | marks[DOWN]:
        lines.append(f"No cell differs significantly from its {before}.")
    if None in compared and not marks[ABOVE_BM25] | marks[BELOW_BM25]:
        lines.append(f"No cell differs significantly from {BM25}.")
    for mark in (ABOVE_BM25, BELOW_BM25):
        if marks[mark] == cells and len(cells) > 1:
            lines.append(f"Every cell is {words[mark]}.")
            marks[mark].clear()
    legend = [f"{mark} {words[mark]}" for mark, marked in marks.items() if marked]
    tested = f"{section.comparison.tested}."
    return [*lines, f"{'; '.join(legend) or 'Significance'}: {tested}"]


def _before(section: Section) -> str:
    across = section.axes.columns
    return "next smaller size" if across == MODEL else f"next smaller {across}"


def holes_line(section: Section, measure: str) -> str:
    """A sentence naming the cells that lack the measure, and BM25 if it does."""
    names = [section.axes.name(cell) for cell in section.holes(measure)]
    if section.bm25(measure) is None:
        names.append(BM25)
    return f"Holes: {', '.join(names) or 'none'}."


def significance_table(section: Section) -> Table:
    """A row per system: interval, how many it is above and below, and what two differences are."""
    comparison, rows = section.comparison, []
    for system in comparison.systems:
        pairs, step = comparison.against(system.cell), section.step(system.cell)
        baseline = comparison.pair(system.cell, None) if system.cell else None
        seeds = ", ".join(map(str, system.seeds))
        rows.append(
            [
                system.name,
                f"{system.mean:.4f}",
                seeds or "n/a",
                interval(system.low, system.high),
                *(
                    str(sum(found))
                    for found in ([p.above for p in pairs], [p.below for p in pairs])
                ),
                *_difference(baseline, with_interval=False),
                *_difference(step, with_interval=True),
            ]
        )
    how = SHORT[section.choices.correction]
    header = ["System", section.main, *SIGNIFICANCE, f"p, BM25 ({how})"]
    header += [*STEP, f"p, step ({how})"]
    return folded(
        Table(
            title=f"Significance of {section.main} on {section.name}",
            header=header,
            rows=rows,
            below=[
                f"Above and below: how many of the other systems have a significantly lower or "
                f"higher {section.main}, by {comparison.tested}; significance.csv has every pair. "
                f"Step: difference from the {_before(section)} that was compared. d is "
                "Cohen's, the mean difference over the deviation of the queries' differences.",
                f"Intervals are {100 * LEVEL:.0f} % bootstrap percentiles over the queries "
                f"({SAMPLES:,} samples), each for itself. Where a cell has several seeds, its "
                "values are averaged per query first: tests and intervals speak of other queries, "
                f"not of other seeds. Level {ALPHA}.",
                section.seeds,
                *comparison.notes,
            ],
        ),
        keep=[section.main],
    )


def _difference(pair: Pair | None, with_interval: bool) -> list[str]:
    """Difference, its interval and p where it is asked for, effect size, adjusted p."""
    if pair is None:
        return ["n/a"] * (5 if with_interval else 3)
    between = [interval(pair.low, pair.high, "+.4f")] if with_interval else []
    alone = [f"{pair.p:.2g}"] if with_interval else []
    told = [*between, show(pair.effect, "+.2f"), *alone, f"{pair.p_adjusted:.2g}"]
    return [f"{pair.difference:+.4f}", *told]


def details_table(section: Section) -> Table:
    """A row per cell and seed: gain over the untrained model, what search misses, and time."""
    header = ["Cell", "Seed", f"Untrained {section.main}", section.main, *DETAILS]
    return folded(
        Table(
            title=f"Details on {section.name}",
            header=header,
            rows=by_result(section, lambda result: _details(result, section), len(header)),
            below=[
                holes_line(section, section.main),
                "p is of the paired randomisation test of the trained against the untrained model; "
                "exact top 10 and exact hits are the shares of exact search's hits that an "
                "approximate engine or half precision found, exact where nothing can be missed; "
                "all stages are those of the cell on every collection, whichever cell they were "
                "done for.",
                section.seeds,
            ],
        ),
        keep=[section.main],
    )


def _details(result: CellResult, section: Section) -> list[str]:
    collection, main = section.collection, section.main
    seconds = [number(result.stages, stage, "seconds") for stage in result.stages]
    known = [value for value in seconds if value is not None]
    efficiency = result.efficiency.get(collection, {})
    found = [number(efficiency, key) for key in AGREEMENT]
    unsaid = HOLE if number(efficiency, "index_bytes") is None else "exact"
    return [
        show(number(result.untrained, collection, main), ".4f"),
        show(number(result.scores, collection, main), ".4f"),
        show(number(result.gain, collection, main), "+.4f"),
        show(number(result.gain, collection, "p"), ".2g"),
        *(unsaid if share is None else f"{100 * share:.2f}" for share in found),
        show(number(efficiency, "encode_seconds"), ",.1f"),
        show(number(efficiency, "search_seconds"), ",.1f"),
        show(sum(known) if known else None, ",.1f"),
    ]


def detail_tables(section: Section) -> list[Table]:
    """Significance where there are systems to compare, details, teachers, costs, health."""
    significance = [significance_table(section)] if section.comparison.systems else []
    fewer = topk_table(section)
    costs = [efficiency_table(section), *([fewer] if fewer else []), compute_table(section)]
    details = [details_table(section), *teacher_tables(section)]
    health = health_table(section)
    return [*significance, *details, *costs, *([health] if health else [])]


def provenance_tables(section: Section) -> list[Table]:
    """What every result was made from, and by which versions of software."""
    header = ["Cell", "Id", "Data", "Backbone", "Parameters", "Start", "Teacher"]
    rows = []
    versions: dict[str, set[str]] = defaultdict(set)
    for _, name, result in section.named:
        facts = (
            result.backbone.get("name"),
            show(number(result.backbone, "parameters"), ",.0f"),
            result.backbone.get("start"),
            result.teacher.get("name") if result.teacher else "none",
            result.checksum(section.collection),
            result.environment.get("commit"),
            result.device.get("name"),
        )
        texts = (HOLE if fact is None else str(fact) for fact in facts)
        rows.append([name, result.id, result.data, *texts])
        for software, version in result.versions.items():
            versions[software].add(str(version))
    used = [[software, ", ".join(sorted(found))] for software, found in sorted(versions.items())]
    header += ["Collection checksum", "Commit", "Device"]
    return [
        folded(Table("Provenance", header, rows)),
        Table("Versions", ["Software", "Version"], used),
    ]
