"""Tables of a section: scaling, significance, details, compute, provenance; and of a ladder."""

import itertools
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from lion_sweep.report.axes import MODEL, Cell
from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.sections import AGREEMENT, Score, Section
from lion_sweep.report.significance import ALPHA, BM25, LEVEL, PERMUTATIONS, SAMPLES

HOLE = "—"
DETAILS = ["Gain", "p", "L0 document", "L0 query", "Shared terms", "Index MiB", "Exact top 10 %"]
DETAILS += ["Exact hits %", "Encode s", "Search s", "All stages s"]
SIGNIFICANCE = ["Interval", "Better than", "Step", "Interval of the step", "p", "p (Holm)"]
COMPUTE = ["Cell", "Seed", "Steps", "Tokens", "FLOPs planned", "FLOPs spent", "Deviation %"]
COMPUTE += ["FLOPs executed", "FLOPs adapt", "FLOPs encode", "FLOPs teacher", "Train tokens/s"]
COMPUTE += ["MFU %"]


@dataclass(frozen=True)
class Table:
    """A titled grid of texts; `bold` holds the (row, column) positions of best values."""

    title: str
    header: list[str]
    rows: list[list[str]]
    below: list[str] = field(default_factory=list)
    bold: frozenset[tuple[int, int]] = frozenset()


def show(value: float | None, form: str) -> str:
    """The number in the given format, or the mark of a hole."""
    return HOLE if value is None else format(value, form)


def _best(values: Sequence[Sequence[float | None]], least: int = 1) -> frozenset[tuple[int, int]]:
    """Positions of the best of every column that has `least` numbers; column 0 holds names."""
    found: set[tuple[int, int]] = set()
    for column, of_column in enumerate(zip(*values, strict=True), start=1):
        # Rounded as printed, so that equal-looking numbers are bold together.
        known = {row: round(value, 4) for row, value in enumerate(of_column) if value is not None}
        if len(known) >= least:
            found |= {(row, column) for row in known if known[row] == max(known.values())}
    return frozenset(found)


def scaling_table(section: Section, measure: str) -> Table:
    """Rows by column, and BM25; bold marks the best of a column, ties included.

    Arrows mark where a cell differs significantly in the main measure from the one before it. Where
    no cell was asked for there is nothing, not the mark of a hole.
    """
    axes, baseline = section.axes, section.bm25(measure)
    rows, means = [], []
    for row, name in axes.rows.items():
        cells = axes.line(row)
        scores = [section.score(cell, measure) for cell in cells]
        means.append([score.mean if score else None for score in scores])
        rows.append([name])
        for cell, score in zip(cells, scores, strict=True):
            rows[-1].append(_score(score) + _arrow(section, cell, measure) if cell else "")
    rows.append([BM25, *[show(baseline, ".4f")] * len(axes.across)])
    means.append([baseline] * len(axes.across))
    below = [holes_line(section, measure), *section.notes]
    scored = [section.score(cell, measure) for cell in section.results]
    if any(score and score.n > 1 for score in scored):
        below.append("± is the sample standard deviation over n seeds.")
    if measure == section.main:
        below += [*_steps_line(section), *section.comparison.notes]
    return Table(
        title=f"{measure} on {section.name}",
        header=["", *(axes.said(axes.columns, value) for value in axes.across)],
        rows=rows,
        below=below,
        bold=_best(means, least=2),
    )


def _score(score: Score | None) -> str:
    if score is None or score.std is None:
        return show(score.mean if score else None, ".4f")
    return f"{score.mean:.4f} ± {score.std:.4f} (n={score.n})"


def _arrow(section: Section, cell: Cell, measure: str) -> str:
    step = section.step(cell)
    if measure != section.main or step is None or not step.significant:
        return ""
    return " ↑" if step.difference > 0 else " ↓"


def _steps_line(section: Section) -> list[str]:
    steps = [step for cell in section.results if (step := section.step(cell))]
    if any(step.significant for step in steps):
        return [
            f"↑ and ↓: significantly above or below the {_before(section)}, after Holm's "
            "correction over all pairs of systems."
        ]
    return [f"No cell differs significantly from its {_before(section)}."] if steps else []


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
    """A row per system: interval, the systems it is better than, difference from the next size."""
    comparison, rows = section.comparison, []
    keys = dict(zip(comparison.systems, _letters(), strict=False))
    for system, key in keys.items():
        pairs, step = comparison.against(system.cell), section.step(system.cell)
        better = ", ".join(keys[p.b] for p in pairs if p.significant and p.difference > 0)
        of_step = ["n/a"] * 4
        if step:
            interval = f"[{step.low:+.4f}, {step.high:+.4f}]"
            of_step = [f"{step.difference:+.4f}", interval, f"{step.p:.2g}", f"{step.p_holm:.2g}"]
        interval = f"[{system.low:.4f}, {system.high:.4f}]"
        name = f"({key}) {system.name}"
        rows.append([name, f"{system.mean:.4f}", interval, better or "none", *of_step])
    return Table(
        title=f"Significance of {section.main} on {section.name}",
        header=["System", section.main, *SIGNIFICANCE],
        rows=rows,
        below=[
            f"Better than: systems with a significantly lower {section.main}, by paired "
            f"randomisation tests over {comparison.queries:,} queries ({PERMUTATIONS:,} "
            f"permutations), Holm's correction over all {len(comparison.pairs)} pairs, level "
            f"{ALPHA}. Step: difference from the {_before(section)} that was compared, "
            "p is of that pair.",
            f"Intervals are {100 * LEVEL:.0f} % bootstrap percentiles over the queries "
            f"({SAMPLES:,} samples), each for itself. Where a cell has several seeds, its values "
            "are averaged per query first: tests and intervals speak of other queries, not of "
            "other seeds.",
            *comparison.notes,
        ],
    )


def _letters() -> Iterator[str]:
    """a to z, aa, ab, and so on."""
    for count in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=count))


def _by_result(
    section: Section, texts: Callable[[CellResult], list[str]], width: int
) -> list[list[str]]:
    """A row per cell and seed, led by these; of a cell without a result, one of holes."""
    rows = []
    for cell, results in section.results.items():
        found = [[str(result.seed), *texts(result)] for result in results]
        rows += [[section.axes.name(cell), *row] for row in found or [[HOLE] * (width - 1)]]
    return rows


def details_table(section: Section) -> Table:
    """A row per cell and seed: gain over the untrained model, sparsity and time."""
    header = ["Cell", "Seed", f"Untrained {section.main}", section.main, *DETAILS]
    return Table(
        title=f"Details on {section.name}",
        header=header,
        rows=_by_result(section, lambda result: _details(result, section), len(header)),
        below=[
            holes_line(section, section.main),
            "p is of the paired randomisation test of the trained against the untrained model; "
            "L0 is the mean number of non-zero terms, shared terms those that a query and a "
            "document have in common on average; exact top 10 and exact hits are the shares of "
            "exact search's hits that an approximate engine or half precision found, exact where "
            "nothing can be missed; all stages are those of the cell on every collection, "
            "whichever cell they were done for.",
        ],
    )


def _details(result: CellResult, section: Section) -> list[str]:
    collection, main = section.collection, section.main
    seconds = [number(result.stages, stage, "seconds") for stage in result.stages]
    known = [value for value in seconds if value is not None]
    efficiency = result.efficiency.get(collection, {})
    index_bytes = number(efficiency, "index_bytes")
    found = [number(efficiency, key) for key in AGREEMENT]
    unsaid = HOLE if index_bytes is None else "exact"
    # Only vectors of terms have them, whatever their paradigm is called.
    of_terms = [number(efficiency, key) for key in ("L0_documents", "L0_queries", "flops")]
    dense = result.efficiency and of_terms[0] is None
    return [
        show(number(result.untrained, collection, main), ".4f"),
        show(number(result.scores, collection, main), ".4f"),
        show(number(result.gain, collection, main), "+.4f"),
        show(number(result.gain, collection, "p"), ".2g"),
        *("n/a" if dense else show(value, ".1f") for value in of_terms),
        HOLE if index_bytes is None else f"{index_bytes / 2**20:,.1f}",
        *(unsaid if share is None else f"{100 * share:.2f}" for share in found),
        show(number(efficiency, "encode_seconds"), ",.1f"),
        show(number(efficiency, "search_seconds"), ",.1f"),
        show(sum(known) if known else None, ",.1f"),
    ]


def compute_table(section: Section) -> Table:
    """A row per cell and seed: the three ledgers of its training, and how fast that ran."""
    shares = Counter(
        (stage, part) for r in section.shown for stage in r.ledger for part in _parts(r, stage)
    )
    return Table(
        title=f"Compute on {section.name}",
        header=COMPUTE,
        rows=_by_result(section, lambda result: _compute(result, shares), len(COMPUTE)),
        below=[
            "FLOPs planned and spent are useful ones of training, and the deviation is of those "
            "spent from those planned; FLOPs executed add padding and recomputation. FLOPs of "
            "adapt and of the teacher are shared out among the cells here that use them. Tokens "
            "are real ones; their rate and MFU (useful FLOPs over the device's published peak, "
            f"{HOLE} where none is known) are of the training loop.",
        ],
    )


def _parts(result: CellResult, stage: str) -> dict[str, float]:
    """Useful FLOPs of a stage, or of its parts, by the folders that cells share."""
    flops = number(result.ledger, stage, "spent", "useful_flops")
    whole = {} if flops is None else {result.stage_folder(stage): flops}
    return (whole and result.ledger[stage].get("parts")) or whole


def _compute(result: CellResult, shares: Counter[tuple[str, str]]) -> list[str]:
    ledger, device = result.ledger, result.device
    planned = number(ledger, "train", "planned", "useful_flops")
    spent = number(ledger, "train", "spent", "useful_flops")
    deviation = 100 * (spent / planned - 1) if planned and spent is not None else None
    tokens, seconds = number(ledger, "train", "spent", "tokens"), number(device, "train_seconds")
    peak, count = number(device, "peak_flops"), number(device, "count")
    peak_work = peak * count * seconds if peak and count and seconds else None

    def shared(stage: str) -> float | None:
        parts = _parts(result, stage)
        return sum(flops / shares[stage, name] for name, flops in parts.items()) if parts else None

    return [
        show(number(ledger, "train", "spent", "steps"), ",.0f"),
        show(tokens, ",.0f"),
        show(planned, ".3g"),
        show(spent, ".3g"),
        show(deviation, "+.2f"),
        show(number(ledger, "train", "spent", "hardware_flops"), ".3g"),
        show(shared("adapt"), ".3g"),
        show(number(ledger, "encode", "spent", "useful_flops"), ".3g"),
        "none" if ledger and "teacher" not in ledger else show(shared("teacher"), ".3g"),
        show(tokens / seconds if tokens is not None and seconds else None, ",.0f"),
        show(100 * spent / peak_work if spent is not None and peak_work else None, ".1f"),
    ]


def detail_tables(section: Section) -> list[Table]:
    """Significance where there are systems to compare, then details and compute."""
    significance = [significance_table(section)] if section.comparison.systems else []
    return [*significance, details_table(section), compute_table(section)]


def provenance_tables(section: Section) -> list[Table]:
    """What every result was made from, and by which versions of software."""
    header = ["Cell", "Id", "Data", "Backbone", "Parameters", "Start", "Teacher"]
    rows = []
    versions: dict[str, set[str]] = defaultdict(set)
    for _, name, result in section.named:
        texts = (
            result.backbone.get("name"),
            show(number(result.backbone, "parameters"), ",.0f"),
            result.backbone.get("start"),
            result.teacher.get("name") if result.teacher else "none",
            result.checksum(section.collection),
        )
        shown = (HOLE if text is None else str(text) for text in texts)
        rows.append([name, result.id, result.data, *shown])
        for software, version in result.versions.items():
            versions[software].add(str(version))
    used = [[software, ", ".join(sorted(found))] for software, found in sorted(versions.items())]
    return [
        Table("Provenance", [*header, "Collection checksum"], rows),
        Table("Versions", ["Software", "Version"], used),
    ]


def overviews(sections: Sequence[Section]) -> dict[str, Table]:
    """A table by ladder: a row per cell and BM25, a column per collection and group's mean."""
    by_ladder = itertools.groupby(sections, key=lambda section: section.ladder)
    found = [(ladder, list(parts)) for ladder, parts in by_ladder]
    return {ladder: _overview(ladder, parts) for ladder, parts in found if len(parts) > 1}


def _overview(ladder: str, sections: list[Section]) -> Table:
    groups: dict[str, list[int]] = defaultdict(list)
    # By name, which is the same on every collection.
    means: dict[str, list[float | None]] = defaultdict(lambda: [None] * len(sections))
    for column, section in enumerate(sections):
        told = (result.collections.get(section.collection, {}) for result in section.shown)
        for group in sorted({entry["group"] for entry in told if entry.get("group")}):
            groups[group].append(column)
        for cell in section.results:
            score = section.score(cell, section.main)
            means[section.axes.name(cell)][column] = score.mean if score else None
    means[BM25] = [section.bm25(section.main) for section in sections]
    for values in means.values():
        values += [_group(values, columns) for columns in groups.values()]
    mains = list(dict.fromkeys(section.main for section in sections))
    heads = [s.name if len(mains) == 1 else f"{s.name}, {s.main}" for s in sections]
    heads += [f"mean of {name} ({len(columns)})" for name, columns in groups.items()]
    return Table(
        title=f"{' or '.join(mains)} on every collection, {ladder} ladder",
        header=["System", *heads],
        rows=[[name, *(show(value, ".4f") for value in means[name])] for name in means],
        below=["A mean is over all collections of its group, or missing."] if groups else [],
        bold=_best(list(means.values())),
    )


def _group(scores: list[float | None], columns: list[int]) -> float | None:
    known = [value for column in columns if (value := scores[column]) is not None]
    return fmean(known) if len(known) == len(columns) else None
