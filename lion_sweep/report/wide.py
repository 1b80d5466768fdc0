"""All that cells are known by and came to, a row per cell and seed; and all tables as texts."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence

from lion_sweep.errors import UserError
from lion_sweep.report.axes import SEED
from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.costs import hours, latency, mfu, money
from lion_sweep.report.exports import _chapters
from lion_sweep.report.failures import ending
from lion_sweep.report.layout import Table
from lion_sweep.report.sections import Section

FINISHED = "finished"
LEDGER = ("steps", "tokens", "useful_flops", "hardware_flops")
Row = dict[str, object]


def cells_csv(sections: Sequence[Section]) -> str:
    """A row per ladder, cell and seed, and one of each that has no result; empty where unknown.

    Raises `UserError` where two numbers would have one column.
    """
    keys = list(dict.fromkeys(key for section in sections for key in section.axes.keys))
    keys = [key for key in keys if key != SEED]
    rows: dict[tuple[str, ...], Row] = {}
    for section in sections:
        for cell, name, result in section.named:
            row = rows.setdefault((section.ladder, result.id), _known(result, name))
            row |= {key: cell[key] for key in keys if key in section.axes.keys}
        for cell, asked in section.begun:
            folder = asked.folder
            identity = folder.name if folder else ""
            row = rows.setdefault((section.ladder, identity, str(cell)), {})
            row |= {"ladder": section.ladder, "cell": section.axes.name(cell), "id": identity}
            row |= {"seed": asked.settings.get(SEED, ""), "state": ending(folder).state}
            row |= {key: cell[key] for key in keys if key in section.axes.keys}
    first = ["ladder", "cell", *keys, "seed", "id", "state"]
    header = list(dict.fromkeys([*first, *(column for row in rows.values() for column in row)]))
    out = io.StringIO()
    writer = csv.DictWriter(out, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return out.getvalue()


def _known(result: CellResult, name: str) -> Row:
    """Everything that a result tells in numbers, and what made it."""
    row: Row = {
        "ladder": result.ladder,
        "cell": name,
        "seed": result.seed,
        "id": result.id,
        "state": FINISHED,
        "data": result.data,
        "commit": result.environment.get("commit"),
        "device": result.device.get("name"),
        "devices": number(result.device, "count"),
        "backbone": result.backbone.get("name"),
        "parameters": number(result.backbone, "parameters"),
        "teacher": result.teacher.get("name") if result.teacher else None,
    }
    for column, value in _numbers(result):
        if column in row:
            raise UserError(
                f"{result.folder / 'result.json'}: two numbers are called '{column}': rename a "
                "collection or a measure in its configuration, so that tables can tell them apart"
            )
        row[column] = value
    return row


def _numbers(result: CellResult) -> Iterator[tuple[str, float | None]]:
    """Names of columns, and values."""
    for what, of in (("", result.scores), ("untrained ", result.untrained), ("BM25 ", result.bm25)):
        for collection, means in of.items():
            for measure in means:
                yield f"{what}{measure} on {collection}", number(means, measure)
    for collection in result.gain:
        yield f"p of gain on {collection}", number(result.gain, collection, "p")
    for collection in result.entropy or {}:
        yield f"entropy on {collection}", number(result.entropy, collection)
    for stage, record in result.ledger.items():
        for kind in ("planned", "spent"):
            for key in LEDGER:
                value = number(record, kind, key)
                if value is not None:
                    yield f"{stage} {kind} {key}", value
    yield "train device_hours", hours(result)
    yield "train mfu", mfu(result)
    yield "train money", money(result)
    for collection, efficiency in result.efficiency.items():
        for key in efficiency:
            yield f"{key} on {collection}", number(efficiency, key)
        yield f"seconds_per_query on {collection}", latency(result, collection)


def tables_csv(sections: Sequence[Section], overviews: Mapping[str, Table]) -> str:
    """The texts of all tables, a row each; those of bold numbers say so."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("chapter", "table", "row", "name", "column", "text", "bold"))
    for chapter, _, found in _chapters(sections, overviews):
        for table in found:
            for at, row in enumerate(table.rows):
                for place, (column, text) in enumerate(zip(table.header, row, strict=True)):
                    if place:
                        bold = int((at, place) in table.bold)
                        writer.writerow((chapter, table.title, at, row[0], column, text, bold))
    return out.getvalue()


def tables_json(sections: Sequence[Section], overviews: Mapping[str, Table]) -> str:
    """All tables as they are shown, with the label of their ladder."""
    told = [
        {
            "chapter": chapter,
            "label": label,
            "title": table.title,
            "header": table.header,
            "rows": table.rows,
            "bold": sorted(table.bold),
            "below": table.below,
        }
        for chapter, label, found in _chapters(sections, overviews)
        for table in found
    ]
    return json.dumps(told, indent=2) + "\n"
