"""One self-contained HTML page with the tables, figures and provenance of a report."""

import base64
from collections.abc import Mapping, Sequence

import jinja2

from lion_sweep.report.collect import CellResult, number
from lion_sweep.report.figures import across
from lion_sweep.report.sections import Section
from lion_sweep.report.tables import (
    LABELS,
    Table,
    detail_tables,
    scaling_table,
    show,
)

TEMPLATE = """\
{%- macro draw(table) %}
<h3>{{ table.title }}</h3>
<div class="wide"><table>
<thead><tr>{% for text in table.header %}<th>{{ text }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in table.rows %}{% set i = loop.index0 %}
<tr>{% for text in row %}{% if loop.first %}<th>{{ text }}</th>
{%- elif (i, loop.index0) in table.bold %}<td><strong>{{ text }}</strong></td>
{%- else %}<td>{{ text }}</td>{% endif %}{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- for text in table.below %}
<p class="below">{{ text }}</p>
{%- endfor %}
{% endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scaling of sparse and dense retrievers</title>
<style>
:root { color-scheme: light dark; --text: #1c1e21; --page: #ffffff; --soft: #5a6068;
  --rule: #d5d9de; --label: #fff3d6; --edge: #b97a00; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --page: #16181b; --soft: #a3a9b1; --rule: #3a3f45;
    --label: #3a2d0c; --edge: #e0a52f; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto;
  padding: 0 1rem; color: var(--text); background: var(--page); }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--rule); padding-bottom: .3rem; }
h3 { margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; font-weight: 500; }
thead th { border-bottom: 1px solid var(--soft); }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
.text td, .text thead th { text-align: left; white-space: normal; overflow-wrap: anywhere;
  min-width: 7rem; }
.below { color: var(--soft); font-size: .9rem; margin: .4rem 0; }
.label { border-left: .3rem solid var(--edge); background: var(--label); padding: .6rem 1rem;
  font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
  gap: 1rem; }
.figures img { width: 100%; background: #ffffff; border-radius: .4rem; }
</style>
</head>
<body>
<h1>Scaling of sparse and dense retrievers</h1>
<nav>{% for section in sections %}
<a href="#section-{{ loop.index }}">{{ section.ladder }} ladder, {{ section.collection }}</a>
{%- if not loop.last %} · {% endif %}{% endfor %}</nav>
{%- for label, table in overviews %}<p class="label">{{ label }}</p>{{ draw(table) }}{% endfor %}
{%- for section in sections %}
<section id="section-{{ loop.index }}">
<h2>{{ section.ladder }} ladder, {{ section.collection }}</h2>
<p class="label">{{ section.label }}</p>
{%- for table in section.scaling %}{{ draw(table) }}{% endfor %}
<h3>Figures</h3>
<div class="figures">
{%- for alt, source in section.figures %}
<img src="{{ source }}" alt="{{ alt }}">
{%- endfor %}
</div>
{%- for table in section.details %}{{ draw(table) }}{% endfor %}
<div class="text">
{%- for table in section.provenance %}{{ draw(table) }}{% endfor -%}
</div>
</section>
{%- endfor %}
</body>
</html>
"""


def page(
    sections: Sequence[Section],
    overviews: Mapping[str, Table],
    figures: Mapping[tuple[str, str, str], bytes],
) -> str:
    """The page; `figures` holds the SVG bytes by (ladder, collection, measure)."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    blocks = [
        {
            "ladder": section.ladder,
            "collection": section.name,
            "label": LABELS[section.ladder],
            "scaling": [scaling_table(section, measure) for measure in section.measures],
            "figures": [
                (
                    f"{measure} against {across(section)}, a line per row of the table",
                    _embedded(figures[section.ladder, section.name, measure]),
                )
                for measure in section.measures
            ],
            "details": detail_tables(section),
            "provenance": [_origins(section), _versions(section)],
        }
        for section in sections
    ]
    return environment.from_string(TEMPLATE).render(
        sections=blocks, overviews=[(LABELS[at], table) for at, table in overviews.items()]
    )


def _embedded(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _origins(section: Section) -> Table:
    header = ["Cell", "Id", "Data", "Backbone", "Parameters", "Start", "Teacher"]
    return Table(
        title="Provenance",
        header=[*header, "Collection checksum"],
        rows=[
            [section.axes.name(cell), *_origin(result, section.collection)]
            for cell, results in section.results.items()
            for result in results
        ],
    )


def _origin(result: CellResult, collection: str) -> list[str]:
    texts = (
        result.backbone.get("name"),
        show(number(result.backbone, "parameters"), ",.0f"),
        result.backbone.get("start"),
        result.teacher.get("name") if result.teacher else "none",
        result.checksum(collection),
    )
    shown = (show(None, "") if text is None else str(text) for text in texts)
    return [result.id, result.data, *shown]


def _versions(section: Section) -> Table:
    found: dict[str, set[str]] = {}
    for result in section.shown:
        for name, version in result.versions.items():
            found.setdefault(name, set()).add(str(version))
    return Table(
        title="Versions",
        header=["Software", "Version"],
        rows=[[name, ", ".join(sorted(versions))] for name, versions in sorted(found.items())],
    )
