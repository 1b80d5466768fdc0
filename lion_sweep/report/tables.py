"""Tables of a section: scaling, significance, details and compute, as Markdown and LaTeX text."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lion_sweep.report.axes import MODEL, Cell
from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.sections import AGREEMENT, Score, Section
from lion_sweep.report.significance import ALPHA, BM25, LEVEL, PERMUTATIONS, SAMPLES, System

HOLE = "—"
LABELS = {
    "proxy": "PROXY LADDER: shrunken stand-ins trained on a laptop budget. "
    "These numbers say nothing about models of the real sizes.",
    "full": "FULL LADDER: models of the real sizes.",
}
DETAILS = ["Gain", "p", "L0 document", "L0 query", "Shared terms", "Index MiB", "Exact top 10 %"]
DETAILS += ["Exact hits %", "Encode s", "Search s", "All stages s"]
SIGNIFICANCE = ["Interval", "Better than", "Step", "Interval of the step", "p", "p (Holm)"]
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
    """Rows by column, and BM25; bold marks the best of a column, ties included.

    Arrows mark where a cell differs significantly in the main measure from the one before it. Where
    no cell was asked for there is nothing, not the mark of a hole.
    """
    axes, baseline = section.axes, section.bm25(measure)
    bm25 = None if baseline is None else Score(baseline, None, 1)
    grid, names, texts = [], [], []
    for row, name in axes.rows.items():
        cells = section.line(row)
        scores = [section.score(cell, measure) if cell else None for cell in cells]
        grid.append(scores)
        names.append(name)
        texts.append(
            [
                _score(score) + _arrow(section, cell, measure) if cell else ""
                for cell, score in zip(cells, scores, strict=True)
            ]
        )
    grid.append([bm25] * len(axes.across))
    names.append(BM25)
    texts.append([_score(bm25)] * len(axes.across))
    bold = set()
    for column, of_column in enumerate(zip(*grid, strict=True), start=1):
        # Rounded as printed, so that equal-looking numbers are bold together.
        means = [None if score is None else round(score.mean, 4) for score in of_column]
        known = [mean for mean in means if mean is not None]
        if len(known) > 1:
            bold |= {(row, column) for row, mean in enumerate(means) if mean == max(known)}
    below = [holes_line(section, measure), *section.notes]
    if any(score is not None and score.n > 1 for scores in grid for score in scores):
        below.append("± is the sample standard deviation over n seeds.")
    if measure == section.main:
        below += [*_steps_line(section), *section.comparison.notes]
    return Table(
        title=f"{measure} on {section.name}",
        header=["", *axes.heads],
        rows=[[name, *of_row] for name, of_row in zip(names, texts, strict=True)],
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
    """What a step is from."""
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
    comparison = section.comparison
    keys = dict(zip(comparison.systems, string.ascii_lowercase, strict=False))
    return Table(
        title=f"Significance of {section.main} on {section.name}",
        header=["System", section.main, *SIGNIFICANCE],
        rows=[
            [f"({key}) {system.name}", *_significance(section, system, keys)]
            for system, key in keys.items()
        ],
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


def _significance(section: Section, system: System, keys: dict[System, str]) -> list[str]:
    pairs = section.comparison.against(system)
    better = ", ".join(keys[p.b] for p in pairs if p.significant and p.difference > 0)
    step = section.step(system.cell) if system.cell else None
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
        name = section.axes.name(cell)
        rows += [[name, *_details(result, section)] for result in results]
        if not results:
            rows.append([name] + [HOLE] * (3 + len(DETAILS)))
    return Table(
        title=f"Details on {section.name}",
        header=["Cell", "Seed", f"Untrained {section.main}", section.main, *DETAILS],
        rows=rows,
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

    def efficiency(key: str, form: str, scale: float = 1.0) -> str:
        value = number(result.efficiency, collection, key)
        return show(None if value is None else value / scale, form)

    def found(key: str) -> str:
        is_exact = number(result.efficiency, collection, "index_bytes") is not None
        shown = efficiency(key, ".2f", 0.01)
        return "exact" if shown == HOLE and is_exact else shown

    # Only vectors of terms have them, whatever their paradigm is called.
    is_sparse = number(result.efficiency, collection, "L0_documents") is not None
    sparse_only = [efficiency(key, ".1f") for key in ("L0_documents", "L0_queries", "flops")]
    return [
        str(result.seed),
        show(number(result.untrained, collection, main), ".4f"),
        show(number(result.scores, collection, main), ".4f"),
        show(number(result.gain, collection, main), "+.4f"),
        show(number(result.gain, collection, "p"), ".2g"),
        *(sparse_only if is_sparse or not result.efficiency else ["n/a"] * 3),
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
        name = section.axes.name(cell)
        rows += [[name, *_compute(result, shares)] for result in results]
        if not results:
            rows.append([name] + [HOLE] * (len(COMPUTE) - 1))
    return Table(
        title=f"Compute on {section.name}",
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
        parts.append(f"## {section.ladder} ladder, {section.name}")
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
