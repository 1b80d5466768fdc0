"""Write the report of a sweep: `python -m lion_sweep.report`."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lion_sweep.files import written
from lion_sweep.report.collect import (
    AXES,
    LADDERS,
    Cell,
    collect,
    grid,
    started,
)
from lion_sweep.report.exports import csv_text, json_text, significance_csv
from lion_sweep.report.figures import render, scaling_figure
from lion_sweep.report.overview import overviews
from lion_sweep.report.page import page
from lion_sweep.report.sections import Section, sections
from lion_sweep.report.significance import MEASURE
from lion_sweep.report.tables import (
    LABELS,
    latex,
    markdown,
    markdown_table,
    scaling_table,
    significance_table,
)

WHOLE_GRID = " ".join(f"{axis}={','.join(values)}" for axis, values in AXES.items())


def write_report(parts: Sequence[Section], folder: Path) -> None:
    """Write the tables, figures and page of the sections into the folder, each file whole."""
    vectors, tables = {}, overviews(parts)
    for section in parts:
        for measure in section.measures:
            figure = scaling_figure(section, measure)
            stem = re.sub(r"[^\w.@-]", "-", f"{section.ladder}-{section.collection}-{measure}")
            vectors[section.ladder, section.collection, measure] = svg = render(figure, "svg")
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


def parse_grid(words: Sequence[str]) -> list[Cell]:
    """Cells of words such as 'model=1b,3b'; axes left out are whole. Raises ValueError."""
    chosen: dict[str, list[str]] = {}
    for word in words:
        axis, equals, values = word.partition("=")
        if not equals or axis not in AXES or axis in chosen:
            raise ValueError(f"cannot read '{word}'; name each axis once, as in: {WHOLE_GRID}")
        chosen[axis] = list(dict.fromkeys(values.split(",")))
    return grid(**chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write and print the report; 0 where every asked-for cell is complete, 2 error, 3 holes."""
    parser = argparse.ArgumentParser("python -m lion_sweep.report", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("outputs"), help="folder with cells/")
    parser.add_argument("--name", default="scaling", help="folder under <root>/reports")
    parser.add_argument("--grid", nargs="+", default=[], metavar="AXIS=VALUES", help=WHOLE_GRID)
    parser.add_argument("--ladder", choices=LADDERS, help="only this ladder (default: each)")
    parser.add_argument("--data", help="only cells trained on this data (default: any)")
    options = parser.parse_args(arguments)
    try:
        cells = parse_grid(options.grid)
    except ValueError as error:
        parser.error(f"--grid: {error}")
    if not re.fullmatch(r"\w[\w.-]*", options.name):
        parser.error(f"--name: '{options.name}' must be letters, digits, '.', '_' and '-' only")

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

    begun = started(options.root)
    parts = sections(results, cells, begun)
    folder = options.root / "reports" / options.name
    write_report(parts, folder)
    for ladder, table in overviews(parts).items():
        print(f"{LABELS[ladder]}\n\n{markdown_table(table)}\n")
    for section in parts:
        print(f"{LABELS[section.ladder]}\n")
        print(f"{markdown_table(scaling_table(section, MEASURE))}\n")
        if section.comparison.systems:
            print(f"{markdown_table(significance_table(section))}\n")
    # A ladder without any result names no collection, hence has no section to show its holes.
    unseen = {at for at, cell in begun if cell in cells and options.ladder in (None, at)}
    unseen -= {section.ladder for section in parts}
    for ladder in sorted(unseen):
        print(f"The {ladder} ladder was started, but has no result yet: all of it is holes.\n")
    print(f"page: {folder / 'index.html'}\ntables: {folder / 'scaling.md'}")
    holes = any(section.holes(measure) for section in parts for measure in section.measures)
    return 3 if holes or unseen else 0


if __name__ == "__main__":
    sys.exit(main())
