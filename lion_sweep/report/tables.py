"""Tables of a section: scaling, significance, details and compute, as Markdown and LaTeX text."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lion_sweep.report.collect import Cell, CellResult, number
from lion_sweep.report.sections import AGREEMENT, Score, Section
from lion_sweep.report.significance import ALPHA, LEVEL, MEASURE, PERMUTATIONS, SAMPLES, System

HOLE = "—"
LABELS = {
    "proxy": "PROXY LADDER: shrunken stand-ins trained on a laptop budget. "
    "These numbers say nothing about models of the real sizes.",
    "full": "FULL LADDER: models of the real sizes.",
}
DETAILS = ["Cell", "Seed", "Untrained nDCG@10", "nDCG@10", "Gain", "p", "L0 document", "L0 query"]
DETAILS += ["Shared terms", "Index MiB", "Exact top 10 %", "Exact hits %", "Encode s", "Search s"]
DETAILS += ["All stages s"]
SIGNIFICANCE = ["System", MEASURE, "Interval", "Better than", "Step", "Interval of the step", "p"]
SIGNIFICANCE += ["p (Holm)"]
COMPUTE = ["Cell", "Seed", "Steps", "Tokens", "FLOPs planned", "FLOPs spent", "Deviation %"]
COMPUTE += ["FLOPs executed", "FLOPs adapt", "FLOPs encode", "FLOPs teacher", "Train tokens/s"]
COMPUTE += ["MFU %"]
LATEX_ESCAPES = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    HOLE: "---",
}


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


def scaling_table(section: Section, measure: str) -> Table:
    """Paradigm x loss by size, and BM25; bold marks the best of a column, ties included.

    Arrows mark where a cell differs significantly in the main measure from its next smaller size.
    """
    baseline = section.bm25(measure)
    bm25 = None if baseline is None else Score(baseline, None, 1)
    grid, names, arrows = [], [], []
    for paradigm, loss in section.rows:
        cells = [Cell(model, paradigm, loss) for model in section.models]
        grid.append([section.score(cell, measure) for cell in cells])
        names.append(cells[0].row)
        arrows.append([_arrow(section, cell, measure) for cell in cells])
    grid.append([bm25] * len(section.models))
    names.append("BM25")
    arrows.append([""] * len(section.models))
    bold = set()
    for column, scores in enumerate(zip(*grid, strict=True), start=1):
        # Rounded as printed, so that equal-looking numbers are bold together.
        means = [None if score is None else round(score.mean, 4) for score in scores]
        known = [mean for mean in means if mean is not None]
        if len(known) > 1:
            bold |= {(row, column) for row, mean in enumerate(means) if mean == max(known)}
    below = [holes_line(section, measure), *section.notes]
    if any(score is not None and score.n > 1 for scores in grid for score in scores):
        below.append("± is the sample standard deviation over n seeds.")
    if measure == MEASURE:
        below += [*_steps_line(section), *section.comparison.notes]
    return Table(
        title=f"{measure} on {section.collection}",
        header=["", *section.models],
        rows=[
            [name, *(_score(score) + arrow for score, arrow in zip(scores, marks, strict=True))]
            for name, scores, marks in zip(names, grid, arrows, strict=True)
        ],
        below=below,
        bold=frozenset(bold),
    )


def _score(score: Score | None) -> str:
    if score is None:
        return HOLE
    if score.std is None:
        return f"{score.mean:.4f}"
    return f"{score.mean:.4f} ± {score.std:.4f} (n={score.n})"


def _arrow(section: Section, cell: Cell, measure: str) -> str:
    step = section.comparison.step(cell)
    if measure != MEASURE or step is None or not step.significant:
        return ""
    return " ↑" if step.difference > 0 else " ↓"


def _steps_line(section: Section) -> list[str]:
    steps = [step for cell in section.results if (step := section.comparison.step(cell))]
    if any(step.significant for step in steps):
        return [
            "↑ and ↓: significantly above or below the next smaller size, after Holm's correction "
            "over all pairs of systems."
        ]
    return ["No cell differs significantly from its next smaller size."] if steps else []


def holes_line(section: Section, measure: str) -> str:
    """A sentence naming the cells that lack the measure, and BM25 if it does."""
    names = [
        f"{cell} (started)" if cell in section.started and not results else str(cell)
        for cell, results in section.results.items()
        if section.score(cell, measure) is None
    ]
    if section.bm25(measure) is None:
        names.append("BM25")
    return f"Holes: {', '.join(names) or 'none'}."


def significance_table(section: Section) -> Table:
    """A row per system: interval, the systems it is better than, difference from the next size."""
    comparison = section.comparison
    keys = dict(zip(comparison.systems, string.ascii_lowercase, strict=False))
    return Table(
        title=f"Significance of {MEASURE} on {section.collection}",
        header=SIGNIFICANCE,
        rows=[
            [f"({key}) {system.name}", *_significance(section, system, keys)]
            for system, key in keys.items()
        ],
        below=[
            f"Better than: systems with a significantly lower {MEASURE}, by paired randomisation "
            f"tests over {comparison.queries:,} queries ({PERMUTATIONS:,} permutations), Holm's "
            f"correction over all {len(comparison.pairs)} pairs, level {ALPHA}. Step: difference "
            "from the next smaller size that was compared, p is of that pair.",
            f"Intervals are {100 * LEVEL:.0f} % bootstrap percentiles over the queries "
            f"({SAMPLES:,} samples), each for itself. Where a cell has several seeds, its values "
            "are averaged per query first: tests and intervals speak of other queries, not of "
            "other seeds.",
            *comparison.notes,
        ],
    )


def _significance(section: Section, system: System, keys: dict[System, str]) -> list[str]:
    pairs = section.comparison.against(system)
    better = ", ".join(keys[p.b] for p in pairs if p.significant and p.difference > 0)
    step = section.comparison.step(system.cell) if system.cell else None
    texts = [
        f"{system.mean:.4f}",
        f"[{system.low:.4f}, {system.high:.4f}]",
        better or "none",
    ]
    if step is None:
        return [*texts, *["n/a"] * 4]
    return [
        *texts,
        f"{step.difference:+.4f}",
        f"[{step.low:+.4f}, {step.high:+.4f}]",
        f"{step.p:.2g}",
        f"{step.p_holm:.2g}",
    ]


def details_table(section: Section) -> Table:
    """A row per cell and seed: gain over the untrained model, sparsity and time."""
    rows = []
    for cell, results in section.results.items():
        rows += [[str(cell), *_details(result, section.collection)] for result in results]
        if not results:
            rows.append([str(cell)] + [HOLE] * (len(DETAILS) - 1))
    return Table(
        title=f"Details on {section.collection}",
        header=DETAILS,
        rows=rows,
        below=[
            holes_line(section, "nDCG@10"),
            "p is of the paired randomisation test of the trained against the untrained model; "
            "L0 is the mean number of non-zero terms, shared terms those that a query and a "
            "document have in common on average; exact top 10 and exact hits are the shares of "
            "exact search's hits that an approximate engine or half precision found, exact where "
            "nothing can be missed; all stages are those of the cell on every collection, "
            "whichever cell they were done for.",
        ],
    )


def _details(result: CellResult, collection: str) -> list[str]:
    seconds = [number(result.stages, stage, "seconds") for stage in result.stages]
    known = [value for value in seconds if value is not None]

    def efficiency(key: str, form: str, scale: float = 1.0) -> str:
        value = number(result.efficiency, collection, key)
        return show(None if value is None else value / scale, form)

    def found(key: str) -> str:
        is_exact = number(result.efficiency, collection, "index_bytes") is not None
        shown = efficiency(key, ".2f", 0.01)
        return "exact" if shown == HOLE and is_exact else shown

    sparse_only = [efficiency(key, ".1f") for key in ("L0_documents", "L0_queries", "flops")]
    return [
        str(result.seed),
        show(number(result.untrained, collection, "nDCG@10"), ".4f"),
        show(number(result.scores, collection, "nDCG@10"), ".4f"),
        show(number(result.gain, collection, "nDCG@10"), "+.4f"),
        show(number(result.gain, collection, "p"), ".2g"),
        *(["n/a"] * 3 if result.axes.paradigm == "dense" else sparse_only),
        efficiency("index_bytes", ",.1f", 2**20),
        *map(found, AGREEMENT),
        efficiency("encode_seconds", ",.1f"),
        efficiency("search_seconds", ",.1f"),
        show(sum(known) if known else None, ",.1f"),
    ]


def compute_table(section: Section) -> Table:
    """A row per cell and seed: the three ledgers of its training, and how fast that ran."""
    shares = section.shares()
    rows = []
    for cell, results in section.results.items():
        rows += [[str(cell), *_compute(result, shares)] for result in results]
        if not results:
            rows.append([str(cell)] + [HOLE] * (len(COMPUTE) - 1))
    return Table(
        title=f"Compute on {section.collection}",
        header=COMPUTE,
        rows=rows,
        below=[
            "FLOPs planned and spent are useful ones of training, and the deviation is of those "
            "spent from those planned; FLOPs executed add padding and recomputation. FLOPs of "
            "adapt and of the teacher are shared out among the cells here that use them. Tokens "
            "are real ones; their rate and MFU (useful FLOPs over the device's published peak, "
            f"{HOLE} where none is known) are of the training loop.",
        ],
    )


def _compute(result: CellResult, shares: dict[tuple[str, str], int]) -> list[str]:
    ledger, device = result.ledger, result.device
    planned = number(ledger, "train", "planned", "useful_flops")
    spent = number(ledger, "train", "spent", "useful_flops")
    deviation = 100 * (spent / planned - 1) if planned and spent is not None else None
    tokens, seconds = number(ledger, "train", "spent", "tokens"), number(device, "train_seconds")
    peak, count = number(device, "peak_flops"), number(device, "count")
    peak_work = peak * count * seconds if peak and count and seconds else None

    def shared(stage: str) -> float | None:
        flops = number(ledger, stage, "spent", "useful_flops")
        return None if flops is None else flops / shares[stage, result.stage_folder(stage)]

    return [
        str(result.seed),
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


def section_tables(section: Section) -> list[Table]:
    """The scaling table of every measure, then the tables of details."""
    scaling = (scaling_table(section, measure) for measure in section.measures)
    return [*scaling, *detail_tables(section)]


def markdown_table(table: Table) -> str:
    """The table in aligned pipes with its title above, and the lines below it."""
    body = [
        [f"**{text}**" if (i, j) in table.bold else text for j, text in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    widths = [max(3, *map(len, column)) for column in zip(table.header, *body, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *rest in (table.header, rule, *body):
        cells = [first.ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n\n".join([f"### {table.title}", "\n".join(lines), *table.below])


def markdown(sections: Sequence[Section], overviews: Mapping[str, Table]) -> str:
    """The overviews and all sections as one Markdown document."""
    parts = ["# Scaling tables"]
    for ladder, table in overviews.items():
        parts += [f"## {ladder} ladder", f"**{LABELS[ladder]}**", markdown_table(table)]
    for section in sections:
        parts.append(f"## {section.ladder} ladder, {section.collection}")
        parts.append(f"**{LABELS[section.ladder]}**")
        parts += map(markdown_table, section_tables(section))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """The text with every character that LaTeX would interpret written out."""
    return "".join(LATEX_ESCAPES.get(character, character) for character in text)


def latex(sections: Sequence[Section], overviews: Mapping[str, Table]) -> str:
    """All tables as LaTeX floats, captioned with the label of their ladder."""
    parts = ["% Needs the packages booktabs and adjustbox."]
    parts += [_latex_table(table, LABELS[ladder]) for ladder, table in overviews.items()]
    for section in sections:
        parts += [_latex_table(t, LABELS[section.ladder]) for t in section_tables(section)]
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table, label: str) -> str:
    def line(texts: list[str]) -> str:
        return " & ".join(texts) + r" \\"

    body = [
        line([rf"\textbf{{{escape(t)}}}" if (i, j) in table.bold else escape(t)
              for j, t in enumerate(row)])
        for i, row in enumerate(table.rows)
    ]  # fmt: skip
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{\textbf{{{escape(label)}}} {escape(table.title)}.}}",
            r"\begin{adjustbox}{max width=\textwidth}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            line([escape(text) for text in table.header]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{adjustbox}",
            *(rf"\par\footnotesize {escape(text)}" for text in table.below),
            r"\end{table}",
        ]
    )
