"""Figures beside their bars: at the end of a rehearsal, and in docs/performance.md.

`python -m benchmarks.gpu_rehearsal.table` writes the table of docs/performance.md anew, from the
records in benchmarks/results/gpu/<card>/.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu_rehearsal.bars import BARS, Bar
from benchmarks.gpu_rehearsal.driver import RECORD
from benchmarks.gpu_rehearsal.steps import LEFT_OUT
from benchmarks.interleaved import RESULTS

GPU_RESULTS = RESULTS / "gpu"
DOCS = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- gpu rehearsal: begin -->", "<!-- gpu rehearsal: end -->"
NOT_YET = "not yet run"
MOST_OF_ERROR = 400  # characters; the record and the log have more


def values(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every figure by its whole name."""
    return {
        f"{case['case']}: {figure['what']}": figure
        for step in record["steps"]
        for case in step["cases"]
        for figure in case["figures"]
    }


def shown(value: float | None, unit: str = "") -> str:
    """A value in few characters."""
    if value is None:
        return "-"
    if unit == "%":
        return f"{value:.1%}"
    number = f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{number} {unit}".strip()


def rows(record: dict[str, Any]) -> list[list[str]]:
    """what, bar, measured, yes or no: of every bar."""
    found = values(record)
    table = []
    for name, bar in BARS.items():
        figure = found.get(name)
        if figure is None:
            table.append([name, _bar(bar), NOT_YET, "-"])
            continue
        unit, met = figure["unit"], {True: "yes", False: "no", None: "-"}[figure["met"]]
        table.append([name, _bar(bar, unit), shown(figure["value"], unit), met])
    return table


def _bar(bar: Bar, unit: str = "") -> str:
    sign = "<=" if bar.at_most else ">="
    better = f" ({shown(bar.stretch, unit)})" if bar.stretch else ""
    return f"{sign} {shown(bar.goal, unit)}{better}"


def summary(record: dict[str, Any], steps: list[str]) -> str:
    """The table, what else was measured, what was left out, and the ends of errors."""
    asked = [row for row in rows(record) if row[2] != NOT_YET or len(steps) > 1]
    lines = [f"{record['card']}, {record['seconds']:.0f} s", *_aligned(asked), ""]
    for step in record["steps"]:
        for case in step["cases"]:
            rest = [
                f"{figure['what']} {shown(figure['value'], figure['unit'])}"
                for figure in case["figures"]
                if f"{case['case']}: {figure['what']}" not in BARS and figure["value"] is not None
            ]
            if rest:
                lines.append(f"{case['case']}: {'; '.join(rest)}")
    lines += [f"left out: {what}: {why}" for what, why in LEFT_OUT.items()]
    for step in record["steps"]:
        for part in [step, *step["cases"]]:
            if part["status"] != "ok" and "word" in part:
                name = part.get("case", part.get("step"))
                lines.append(f"{part['status']}: {name}: {part['word'][-MOST_OF_ERROR:]}")
    return "\n".join(lines)


def _aligned(table: list[list[str]]) -> Iterator[str]:
    table = [["what", "bar", "measured", "met"], *table]
    wide = [max(len(row[column]) for row in table) for column in range(4)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip()


def failed(record: dict[str, Any]) -> bool:
    """Whether a step failed or was stopped, or a result was wrong."""
    found = values(record)
    wrong = [
        name
        for name, bar in BARS.items()
        if name in found and bar.correctness and found[name]["met"] is False
    ]
    return bool(wrong) or any(step["status"] in ("failed", "timeout") for step in record["steps"])


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Whole rehearsals on GPUs, by card."""
    found = (json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{RECORD}")))
    whole = (one for one in found if one["device"] == "cuda" and not one["tiny"])
    return {record["card"]: record for record in whole}


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """A row for every bar, a column for every card."""
    cards = list(found) or ["measured"]
    lines = [f"| what | bar | {' | '.join(cards)} |", f"| --- | ---: |{' ---: |' * len(cards)}"]
    tables = [rows(record) for record in found.values()]
    units = {
        name: figure["unit"] for record in found.values() for name, figure in values(record).items()
    }
    for number, (name, bar) in enumerate(BARS.items()):
        cells = [_cell(*table[number][2:]) for table in tables] or [NOT_YET]
        lines.append(f"| {name} | {_bar(bar, units.get(name, ''))} | {' | '.join(cells)} |")
    lines += [f"| {what} | | {why} |" for what, why in LEFT_OUT.items()]
    told = [
        f"{card}: {record['seconds']:.0f} s, `{record['command']}`, "
        + ", ".join(f"{name} {number}" for name, number in record["versions"].items())
        for card, record in found.items()
    ]
    return "\n\n".join(["\n".join(lines), *told])


def _cell(measured: str, met: str) -> str:
    return f"{measured}, {met}" if met in ("yes", "no") else measured


def with_table(text: str, table: str) -> str:
    """The text of a page with this table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Write the page anew."""
    DOCS.write_text(with_table(DOCS.read_text(), markdown(records(GPU_RESULTS))))


if __name__ == "__main__":
    main()
