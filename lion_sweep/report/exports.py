"""The forms of a report: Markdown, LaTeX and a page; for programs CSV and JSON.

Shorter forms of what a whole section has are in `wide`: a row per cell, and all tables as texts.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields

from lion_sweep.config.ladder import LABELS
from lion_sweep.report import significance, tables
from lion_sweep.report.collect import CellResult
from lion_sweep.report.failures import failures_table
from lion_sweep.report.findings import as_record, findings, findings_table
from lion_sweep.report.fit_tables import as_json, fit_tables
from lion_sweep.report.layout import HOLE, Table
from lion_sweep.report.noise import noise, noise_table
from lion_sweep.report.overview import by_ladder, group_tables
from lion_sweep.report.page import build
from lion_sweep.report.references import published
from lion_sweep.report.sections import Section
from lion_sweep.report.significance import Pair

SIGNIFICANCE = (
    "ladder", "collection", "measure", "system_a", "system_b", "difference", "ci_low", "ci_high",
    "cohens_d", "p", "p_holm", "p_maxt", "p_bh", "correction", "queries", "seeds_a", "seeds_b",
    "permutations",
)  # fmt: skip
LATEX_ESCAPES = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≈": r"$\approx$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    HOLE: "---",
}


def csv_text(parts: Sequence[Section]) -> str:
    """Long table: a row per cell, seed and measure; seed, id and value are empty for holes.

    Keys that tell cells apart, beside the three axes, have columns of their own.
    """
    keys = list(dict.fromkeys(key for section in parts for key in section.axes.keys))
    rows: list[tuple[object, ...]] = []
    for section in parts:
        for cell, results in section.results.items():
            where = (section.ladder, section.name, *(cell[key] for key in keys))
            scored = [(str(r.seed), r.id, r.scores[section.collection]) for r in results]
            for seed, identity, scores in scored or [("", "", {})]:
                rows += [(*where, seed, identity, m, scores.get(m)) for m in section.measures]
    return _csv(("ladder", "collection", *keys, "seed", "id", "measure", "value"), rows)


def significance_csv(parts: Sequence[Section]) -> str:
    """A row per pair of compared systems: system_a less system_b; seeds lie apart by spaces."""
    rows = [
        (section.ladder, section.name, section.main, *_pair(section, pair).values())
        for section in parts
        for pair in section.comparison.pairs
    ]
    return _csv(SIGNIFICANCE, rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _pair(section: Section, pair: Pair) -> dict[str, object]:
    return {
        "system_a": pair.a.name,
        "system_b": pair.b.name,
        "difference": pair.difference,
        "ci_low": pair.low,
        "ci_high": pair.high,
        "cohens_d": pair.effect,
        "p": pair.p,
        "p_holm": pair.p_holm,
        "p_maxt": pair.p_maxt,
        "p_bh": pair.p_bh,
        "correction": pair.correction,
        "queries": section.comparison.queries,
        "seeds_a": " ".join(map(str, pair.a.seeds)),
        "seeds_b": " ".join(map(str, pair.b.seeds)),
        "permutations": significance.PERMUTATIONS,
    }


def json_text(parts: Sequence[Section]) -> str:
    """Everything the report holds, an object per section."""
    return json.dumps([_section(section) for section in parts], indent=2) + "\n"


def _section(section: Section) -> dict[str, object]:
    hole = {"mean": None, "std": None, "n": 0}
    scores = []
    for cell in section.results:
        for measure in section.measures:
            score = section.score(cell, measure)
            row = {key: cell[key] for key in section.axes.keys} | {"measure": measure}
            scores.append(row | (asdict(score) if score else hole))
    return {
        "ladder": section.ladder,
        "collection": section.name,
        "columns": section.axes.columns,
        "label": LABELS[section.ladder],
        "scores": scores,
        "bm25": {measure: section.bm25(measure) for measure in section.measures},
        "significance": _significance(section),
        "signal_and_noise": _noise(section),
        "findings": [as_record(one) for one in findings(section)],
        "published": _published(section),
        "seeds": section.seeds,
        "fits": as_json(section.fits),
        "notes": section.notes,
        "results": [_record(result) for result in section.shown],
    }


def _record(result: CellResult) -> dict[str, object]:
    """As `asdict`, which would copy thousands of ledgers that are only written down."""
    told = {field.name: getattr(result, field.name) for field in fields(result)}
    return told | {"asked": asdict(result.asked), "folder": str(result.folder)}


def _noise(section: Section) -> dict[str, object]:
    found = noise(section)
    return asdict(found) | {
        "signal_to_noise_seeds": found.by_seeds,
        "signal_to_noise_points": found.by_points,
    }


def _published(section: Section) -> list[dict[str, object]]:
    """Numbers of others that tables show; none of them was measured here."""
    return [
        {"name": one.name, "title": one.title, "measure": measure, "value": value}
        | {"source": one.source, "url": one.url, "second_hand": one.second_hand}
        for measure in section.measures
        for one, value in published(
            section.choices.references, section.ladder, section.collection, measure
        )
    ]


def _significance(section: Section) -> dict[str, object]:
    systems = [
        {"system": s.name, "seeds": s.seeds, "mean": s.mean, "ci_low": s.low, "ci_high": s.high}
        for s in section.comparison.systems
    ]
    return {
        "measure": section.main,
        "level_of_intervals": significance.LEVEL,
        "bootstrap_samples": significance.SAMPLES,
        "seed": significance.SEED,
        "level": significance.ALPHA,
        "correction": section.choices.correction,
        "systems": systems,
        "pairs": [_pair(section, pair) for pair in section.comparison.pairs],
        "notes": section.comparison.notes,
    }


def markdown_table(table: Table) -> str:
    """The table in aligned pipes with its title above, and the lines below it."""
    header, *rows = (
        [text.replace("|", r"\|") for text in row] for row in (table.header, *table.rows)
    )
    body = [
        [f"**{text}**" if (i, j) in table.bold else text for j, text in enumerate(row)]
        for i, row in enumerate(rows)
    ]
    widths = [max(3, *map(len, column)) for column in zip(header, *body, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *rest in (header, rule, *body):
        cells = [first.ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n\n".join([f"### {table.title}", "\n".join(lines), *table.below])


def _chapters(
    sections: Sequence[Section], overviews: Mapping[str, Table]
) -> Iterator[tuple[str, str, list[Table]]]:
    """Title, label and tables of every ladder, which findings open, and of every section."""
    for ladder, parts in by_ladder(sections).items():
        found = findings_table(ladder, parts)
        over_all = [overviews[ladder], *group_tables(parts)] if ladder in overviews else []
        missing = failures_table(ladder, parts)
        ends = [noise_table(ladder, parts), *([missing] if missing else [])]
        yield f"{ladder} ladder", LABELS[ladder], [*([found] if found else []), *over_all, *ends]
    for section in sections:
        title = f"{section.ladder} ladder, {section.name}"
        yield title, LABELS[section.ladder], _of_section(section)


def _of_section(section: Section) -> list[Table]:
    """Its tables, worked out once for all forms of the report."""
    if "tables" not in section.memo:
        scaling = [tables.scaling_table(section, measure) for measure in section.measures]
        section.memo["tables"] = [*scaling, *fit_tables(section), *tables.detail_tables(section)]
    return section.memo["tables"]


def markdown(sections: Sequence[Section], overviews: Mapping[str, Table]) -> str:
    """The overviews and all sections as one Markdown document."""
    parts = ["# Scaling tables"]
    for title, label, found in _chapters(sections, overviews):
        parts += [f"## {title}", f"**{label}**", *map(markdown_table, found)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """The text with every character that LaTeX would interpret, or does not know, written out."""
    return "".join(map(_escaped, " ".join(text.split())))


def _escaped(character: str) -> str:
    if character in LATEX_ESCAPES or (character.isprintable() and ord(character) < 0x180):
        return LATEX_ESCAPES.get(character, character)
    return f"[U+{ord(character):04X}]"


def latex(sections: Sequence[Section], overviews: Mapping[str, Table]) -> str:
    """All tables as LaTeX floats, captioned with the label of their ladder."""
    parts = ["% Needs the packages booktabs and graphicx; to be read as UTF-8."]
    for _, label, found in _chapters(sections, overviews):
        parts += [_latex_table(table, label) for table in found]
        parts.append(r"\clearpage")  # LaTeX keeps no more than some dozens of floats waiting
    return "\n\n".join(parts) + "\n"


# As wide as the text where a table would be wider, else as it is.
SHRUNK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


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
            r"\begin{table}[p]",
            r"\centering",
            rf"\caption{{\textbf{{{escape(label)}}} {escape(table.title)}.}}",
            SHRUNK,
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            line([escape(text) for text in table.header]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            *(rf"\par\footnotesize {escape(text)}" for text in table.below),
            r"\end{table}",
        ]
    )


def page(sections: Sequence[Section], overviews: Mapping[str, Table], files: Sequence[str]) -> str:
    """The page; `files` are the names of files that are written beside it."""
    return build.page(sections, list(_chapters(sections, overviews)), files)
