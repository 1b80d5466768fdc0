"""`python -m lion_sweep.report`: tables, figures and a page of all cells below a folder of outputs.

A row per paradigm, loss and whatever else cells differ in; sizes are across, or the number that
cells of one size differ in. Seeds are averaged.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lion_sweep import command
from lion_sweep.files import written
from lion_sweep.report.axes import STUDY, full_key
from lion_sweep.report.collect import LADDERS, Asked, collect, unfinished
from lion_sweep.report.exports import csv_text, json_text, significance_csv
from lion_sweep.report.figures import render, scaling_figure
from lion_sweep.report.overview import overviews
from lion_sweep.report.page import page
from lion_sweep.report.sections import Section, Wanted, sections
from lion_sweep.report.tables import (
    LABELS,
    latex,
    markdown,
    markdown_table,
    scaling_table,
    significance_table,
)

WHOLE_GRID = " ".join(f"{axis}={','.join(values)}" for axis, values in STUDY.items())


def write_report(parts: Sequence[Section], folder: Path) -> None:
    """Write the tables, figures and page of the sections into the folder, each file whole."""
    vectors, tables = {}, overviews(parts)
    for section in parts:
        for measure in section.measures:
            figure = scaling_figure(section, measure)
            stem = re.sub(r"[^\w.@-]", "-", f"{section.ladder}-{section.name}-{measure}")
            vectors[section.ladder, section.name, measure] = svg = render(figure, "svg")
            _write(folder / "figures" / f"{stem}.svg", svg)
            _write(folder / "figures" / f"{stem}.png", render(figure, "png"))
    texts = {
        "scaling.md": markdown(parts, tables),
        "scaling.csv": csv_text(parts),
        "scaling.tex": latex(parts, tables),
        "scaling.json": json_text(parts),
        "significance.csv": significance_csv(parts),
        "index.html": page(parts, tables, vectors),
    }
    for name, text in texts.items():
        _write(folder / name, text.encode())


def _write(path: Path, content: bytes) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as partial:
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


def _options() -> argparse.ArgumentParser:
    """The command's options."""
    made = command.parser("report", __doc__)
    made.add_argument("--name", default="scaling", help="folder under ROOT/reports (%(default)s)")
    made.add_argument(
        "--grid",
        nargs="+",
        default=[],
        metavar="KEY=VALUES",
        help="only these cells, and all combinations of them, where missing ones are "
        f"holes; the study's: {WHOLE_GRID}",
    )
    made.add_argument(
        "--columns",
        metavar="KEY",
        help="what is across in tables and figures, as in seed or lora.rank; without "
        "it sizes, or the number that cells differ in",
    )
    made.add_argument(
        "--tables",
        nargs="+",
        default=[],
        metavar="KEY",
        help="a table and a figure for each value, as in budget.flops",
    )
    made.add_argument("--ladder", choices=LADDERS, help="only this ladder")
    made.add_argument("--data", help="only cells trained on this data")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Write and print the report; 0 where every asked-for cell is complete, 2 error, 3 holes."""
    words = sys.argv[1:] if arguments is None else arguments
    made = _options()
    options = command.parse(made, words)
    if not re.fullmatch(r"\w[\w.-]*", options.name):
        made.error(f"--name: '{options.name}' must be letters, digits, '.', '_' and '-' only")
    everything = collect(options.root)
    if not everything:
        print(
            f"There are no results under {options.root / 'cells'}; "
            f"train the grid first with `python -m lion_sweep -m {WHOLE_GRID}`.",
            file=sys.stderr,
        )
        return 2
    results = [
        result
        for result in everything
        if options.ladder in (None, result.ladder) and options.data in (None, result.data)
    ]
    if not results:
        there = sorted({f"--ladder {result.ladder} --data {result.data}" for result in everything})
        print(f"No result fits; there are results for: {'; '.join(there)}.", file=sys.stderr)
        return 2
    begun = [
        cell
        for cell in unfinished(options.root)
        if options.ladder in (None, cell.ladder)
        and options.data in (None, cell.settings.get("data.name"))
    ]
    told = [*(result.asked for result in results), *begun]
    try:
        wanted = Wanted(
            parse_grid(options.grid, told),
            options.columns and full_key(options.columns, told),
            [full_key(word, told) for word in options.tables],
        )
        parts = sections(results, begun, wanted)
    except ValueError as error:
        made.error(str(error))
    folder = options.root / "reports" / options.name
    write_report(parts, folder)
    for ladder, table in overviews(parts).items():
        print(f"{LABELS[ladder]}\n\n{markdown_table(table)}\n")
    for section in parts:
        print(f"{LABELS[section.ladder]}\n")
        print(f"{markdown_table(scaling_table(section, section.main))}\n")
        if section.comparison.systems:
            print(f"{markdown_table(significance_table(section))}\n")
    # A ladder without any result names no collection, hence has no section to show its holes.
    unseen = {cell.ladder for cell in begun} - {section.ladder for section in parts}
    for ladder in sorted(unseen):
        print(f"The {ladder} ladder was started, but has no result yet: all of it is holes.\n")
    print(f"page: {folder / 'index.html'}\ntables: {folder / 'scaling.md'}")
    holes = any(section.holes(measure) for section in parts for measure in section.measures)
    return 3 if holes or unseen else 0


if __name__ == "__main__":
    sys.exit(main())
