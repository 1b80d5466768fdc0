"""`python -m lion_sweep.report`: tables, figures and a page of all cells below a folder of outputs.

A row per paradigm, loss and whatever else cells differ in; sizes are across, or the number that
cells of one size differ in. Seeds are averaged. Claims are tested, and given a verdict. For
programs: cells.csv has a row per cell and seed, significance.csv every pair, tables.csv and
tables.json all tables, scaling.json everything.
"""

import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from lion_sweep import command
from lion_sweep.config.ladder import LABELS
from lion_sweep.errors import UserError
from lion_sweep.files import written
from lion_sweep.report import exports, paper, remote, wide
from lion_sweep.report.axes import STUDY, full_key
from lion_sweep.report.collect import Asked, CellResult, collect, unfinished
from lion_sweep.report.drawing import drawing_of, left_out
from lion_sweep.report.failures import states
from lion_sweep.report.figures import Spec
from lion_sweep.report.findings import findings_table
from lion_sweep.report.overview import by_ladder
from lion_sweep.report.references import ALL, NONE, read_references
from lion_sweep.report.sections import Choices, Section, sections
from lion_sweep.report.significance import CORRECTIONS, HOLM
from lion_sweep.report.statements import read_statements, study
from lion_sweep.report.tables import overviews, scaling_table, significance_table

WHOLE_GRID = " ".join(f"{axis}={','.join(values)}" for axis, values in STUDY.items())


def write_report(parts: Sequence[Section], folder: Path) -> None:
    """Write the tables, figures and page of the sections into the folder, each file whole."""
    specifications = _specifications(parts)
    with drawing_of(specifications) as drawing:
        tables = overviews(parts)
        texts = {
            "scaling.md": exports.markdown(parts, tables),
            "scaling.csv": exports.csv_text(parts),
            "scaling.tex": exports.latex(parts, tables),
            "scaling.json": exports.json_text(parts),
            "significance.csv": exports.significance_csv(parts),
            "cells.csv": wide.cells_csv(parts),
            "tables.csv": wide.tables_csv(parts, tables),
            "tables.json": wide.tables_json(parts, tables),
        }

        def page(stems: Collection[str]) -> str:
            names = [*texts, *(f"figures/{stem}.pdf" for stem in stems)]
            return exports.page(parts, tables, names)

        html, drawn = page(specifications), dict[str, dict[str, bytes]]()
        with left_out("figures"):
            drawn = drawing.result()
    texts["index.html"] = html if drawn.keys() == specifications.keys() else page(drawn)
    files = {name: text.encode() for name, text in texts.items()}
    for stem, forms in drawn.items():
        files |= {f"figures/{stem}.{form}": content for form, content in forms.items()}
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with written(folder / name) as partial:
            partial.write_bytes(content)


def refuse_unwritable(folder: Path) -> None:
    """Raise `UserError` where the report could not be written, before anything is worked out."""
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        with written(folder / ".writable") as partial:
            partial.touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {folder} ({error.strerror or error}): choose another "
            "folder with --name, or make that one writable"
        ) from None


def _specifications(parts: Sequence[Section]) -> dict[str, Spec]:
    """What the figures show, by their names."""
    found = {}
    for stem, made in paper.figures(parts):
        with left_out(f"figure {stem}"):
            found[stem] = made()
    return found


def parse_grid(words: Sequence[str], cells: Sequence[Asked]) -> dict[str, list[str]]:
    """Values by key, of words such as 'model=1b,3b'. Raises ValueError."""
    chosen: dict[str, list[str]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not equals or not values:
            raise ValueError(f"cannot read '{word}'; write KEY=VALUES, as in: {WHOLE_GRID}")
        key = full_key(name, cells)
        if key in chosen:
            raise ValueError(f"'{word}' names {key} once more; give all its values in one word")
        chosen[key] = list(dict.fromkeys(values.split(",")))
    return chosen


def _options() -> command.Parser:
    made = command.parser("report", __doc__)
    made.add_argument("--name", default="scaling", help="folder under ROOT/reports (%(default)s)")
    said = "only these cells, and all combinations of them, where missing ones are holes; "
    said += f"the study's: {WHOLE_GRID}"
    made.add_argument("--grid", nargs="+", default=[], metavar="KEY=VALUES", help=said)
    said = "what is across in tables and figures, as in seed or lora.rank; "
    said += "without it sizes, or the number that cells differ in"
    made.add_argument("--columns", metavar="KEY", help=said)
    said = "a table and a figure for each value, as in budget.flops"
    made.add_argument("--tables", nargs="+", default=[], metavar="KEY", help=said)
    said = "whose p marks what is significant: Holm's, MaxT's or Benjamini and Hochberg's "
    said += "(%(default)s); significance.csv has all three"
    made.add_argument("--correction", choices=CORRECTIONS, default=HOLM, help=said)
    said = "published numbers beside a full ladder's: none, all, or names with commas between them "
    said += "(%(default)s); conf/reference has them"
    made.add_argument("--references", default=ALL, metavar=f"{NONE}|{ALL}|NAMES", help=said)
    said = "claims to test, in the form of conf/findings/study.yaml, which are tested without it; "
    said += "none: no claims"
    made.add_argument("--findings", metavar="FILE.yaml", help=said)
    made.add_argument("--ladder", choices=LABELS, help="only this ladder")
    made.add_argument("--data", help="only cells trained on this data")
    said = "results of a grid that ran elsewhere, wandb:ENTITY/PROJECT: they are downloaded to "
    said += f"ROOT/{remote.FOLDER}, where the report is written too"
    made.add_argument("--from", dest="source", metavar="SOURCE", help=said)
    return made


def _choices(correction: str, references: str, claims: str | None) -> Choices:
    """What the options ask for. Raises `UserError`."""
    file = study() if claims is None else Path(claims)
    statements = () if claims == NONE else read_statements(file)
    return Choices(correction, read_references(references), statements)


def _nothing(root: Path, everything: Sequence[CellResult], begun: Sequence[Asked]) -> str:
    """Why there is nothing to show, and what to do about it."""
    there = sorted({f"--ladder {result.ladder} --data {result.data}" for result in everything})
    if there:
        return f"No result fits; there are results for: {'; '.join(there)}."
    told = f"There are no results under {root / 'cells'}"
    if begun:
        more = "`python -m lion_sweep.status` tells more"
        return f"{told}, of {len(begun)} cells asked for: {states(begun)}; {more}."
    return f"{told}; train the grid first with `python -m lion_sweep -m {WHOLE_GRID}`."


def _show(parts: Sequence[Section]) -> None:
    """Print findings and overviews of every ladder, and the main tables of every section."""
    tables_of = overviews(parts)
    for ladder, of_ladder in by_ladder(parts).items():
        found = findings_table(ladder, of_ladder), tables_of.get(ladder)
        for table in filter(None, found):
            print(f"{LABELS[ladder]}\n\n{exports.markdown_table(table)}\n")
    for section in parts:
        print(f"{LABELS[section.ladder]}\n")
        print(f"{exports.markdown_table(scaling_table(section, section.main))}\n")
        if section.comparison.systems:
            print(f"{exports.markdown_table(significance_table(section))}\n")


def main(words: Sequence[str]) -> int:
    """Write and print the report; 0 where every asked-for cell is complete, 3 where holes are.

    Raises `UserError` where nothing can be shown.
    """
    made = _options()
    options = command.parse(made, words)
    if not re.fullmatch(r"\w[\w.-]*", options.name):
        made.error(f"--name: '{options.name}' must be letters, digits, '.', '_' and '-' only")

    choices = _choices(options.correction, options.references, options.findings)
    if options.source:
        options.root = remote.fetch(options.source, options.root)

    def chosen(ladder: str, data: str | None) -> bool:
        return options.ladder in (None, ladder) and options.data in (None, data)

    everything = collect(options.root)
    results = [result for result in everything if chosen(result.ladder, result.data)]
    begun = [
        cell
        for cell in unfinished(options.root)
        if chosen(cell.ladder, cell.settings.get("data.name"))
    ]
    if not results:
        print(_nothing(options.root, everything, begun), file=sys.stderr)
        return 2
    told = [*(result.asked for result in results), *begun]
    try:
        grid = parse_grid(options.grid, told)
        columns = options.columns and full_key(options.columns, told)
        tables = [full_key(word, told) for word in options.tables]
        shape: dict[str, Any] = {"grid": grid, "columns": columns, "tables": tables}
        parts = sections(results, begun, choices=choices, **shape)
    except ValueError as error:
        made.error(str(error))
    folder = options.root / "reports" / options.name
    refuse_unwritable(folder)
    write_report(parts, folder)
    _show(parts)
    # A ladder without any result names no collection, hence has no section to show its holes.
    unseen = {cell.ladder for cell in begun} - {section.ladder for section in parts}
    for ladder in sorted(unseen):
        ended = states(cell for cell in begun if cell.ladder == ladder)
        print(
            f"The {ladder} ladder was started, but has no result yet: all of it is holes "
            f"({ended}).\n"
        )
    print(f"page: {folder / 'index.html'}\ntables: {folder / 'scaling.md'}")
    holes = any(section.holes(measure) for section in parts for measure in section.measures)
    return 3 if holes or unseen else 0


if __name__ == "__main__":
    command.run(main)
