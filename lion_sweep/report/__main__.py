"""`python -m lion_sweep.report`: tables, figures and a page of all cells below a folder of outputs.

A row per paradigm, loss and whatever else cells differ in; sizes are across, or the number that
cells of one size differ in. Seeds are averaged.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lion_sweep import command
from lion_sweep.errors import sentence, trace
from lion_sweep.files import written
from lion_sweep.report import exports, remote
from lion_sweep.report.axes import STUDY, full_key
from lion_sweep.report.collect import LABELS, Asked, collect, unfinished
from lion_sweep.report.figures import render, scaling_figure
from lion_sweep.report.sections import Section, sections
from lion_sweep.report.tables import overviews, scaling_table, significance_table

WHOLE_GRID = " ".join(f"{axis}={','.join(values)}" for axis, values in STUDY.items())


def write_report(parts: Sequence[Section], folder: Path) -> None:
    """Write the tables, figures and page of the sections into the folder, each file whole."""
    vectors: dict[tuple[str, str, str], bytes] = {}
    files: dict[str, bytes] = {}
    tables = overviews(parts)
    for section in parts:
        for measure in section.measures:
            stem = re.sub(r"[^\w.@-]", "-", f"{section.ladder}-{section.name}-{measure}")
            try:
                figure = scaling_figure(section, measure)
                svg, png = render(figure, "svg"), render(figure, "png")
            except Exception as error:  # of fonts, folders, a library: tables do not need them
                trace(error)
                print(f"without figure {stem}: {sentence(error)}", file=sys.stderr, flush=True)
                continue
            vectors[section.ladder, section.name, measure] = svg
            files |= {f"figures/{stem}.svg": svg, f"figures/{stem}.png": png}
    texts = {
        "scaling.md": exports.markdown(parts, tables),
        "scaling.csv": exports.csv_text(parts),
        "scaling.tex": exports.latex(parts, tables),
        "scaling.json": exports.json_text(parts),
        "significance.csv": exports.significance_csv(parts),
        "index.html": exports.page(parts, tables, vectors),
    }
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    files |= {name: text.encode() for name, text in texts.items()}
    for name, content in files.items():
        with written(folder / name) as partial:
            partial.write_bytes(content)


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
    made.add_argument("--ladder", choices=LABELS, help="only this ladder")
    made.add_argument("--data", help="only cells trained on this data")
    said = "results of a grid that ran elsewhere, wandb:ENTITY/PROJECT: they are downloaded to "
    said += f"ROOT/{remote.FOLDER}, where the report is written too"
    made.add_argument("--from", dest="source", metavar="SOURCE", help=said)
    return made


def main(words: Sequence[str]) -> int:
    """Write and print the report; 0 where every asked-for cell is complete, 3 where holes are.

    Raises `UserError` where nothing can be shown.
    """
    made = _options()
    options = command.parse(made, words)
    if not re.fullmatch(r"\w[\w.-]*", options.name):
        made.error(f"--name: '{options.name}' must be letters, digits, '.', '_' and '-' only")

    if options.source:
        options.root = remote.fetch(options.source, options.root)

    def chosen(ladder: str, data: str | None) -> bool:
        return options.ladder in (None, ladder) and options.data in (None, data)

    everything = collect(options.root)
    results = [result for result in everything if chosen(result.ladder, result.data)]
    if not results:
        there = sorted({f"--ladder {result.ladder} --data {result.data}" for result in everything})
        missing = (
            f"No result fits; there are results for: {'; '.join(there)}."
            if there
            else f"There are no results under {options.root / 'cells'}; "
            f"train the grid first with `python -m lion_sweep -m {WHOLE_GRID}`."
        )
        print(missing, file=sys.stderr)
        return 2
    begun = [
        cell
        for cell in unfinished(options.root)
        if chosen(cell.ladder, cell.settings.get("data.name"))
    ]
    told = [*(result.asked for result in results), *begun]
    try:
        grid = parse_grid(options.grid, told)
        columns = options.columns and full_key(options.columns, told)
        tables = [full_key(word, told) for word in options.tables]
        parts = sections(results, begun, grid=grid, columns=columns, tables=tables)
    except ValueError as error:
        made.error(str(error))
    folder = options.root / "reports" / options.name
    write_report(parts, folder)
    for ladder, table in overviews(parts).items():
        print(f"{LABELS[ladder]}\n\n{exports.markdown_table(table)}\n")
    for section in parts:
        print(f"{LABELS[section.ladder]}\n")
        print(f"{exports.markdown_table(scaling_table(section, section.main))}\n")
        if section.comparison.systems:
            print(f"{exports.markdown_table(significance_table(section))}\n")
    # A ladder without any result names no collection, hence has no section to show its holes.
    unseen = {cell.ladder for cell in begun} - {section.ladder for section in parts}
    for ladder in sorted(unseen):
        print(f"The {ladder} ladder was started, but has no result yet: all of it is holes.\n")
    print(f"page: {folder / 'index.html'}\ntables: {folder / 'scaling.md'}")
    holes = any(section.holes(measure) for section in parts for measure in section.measures)
    return 3 if holes or unseen else 0


if __name__ == "__main__":
    command.run(main)
