"""One self-contained HTML page with the tables, figures and provenance of a report."""

import base64
from collections.abc import Mapping, Sequence

import jinja2

from lion_sweep.report import tables
from lion_sweep.report.figures import across
from lion_sweep.report.sections import Section

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
<a href="#section-{{ loop.index }}">{{ section.ladder }} ladder, {{ section.name }}</a>
{%- if not loop.last %} · {% endif %}{% endfor %}</nav>
{%- for ladder, table in overviews.items() -%}
<p class="label">{{ tables.LABELS[ladder] }}</p>{{ draw(table) }}{% endfor %}
{%- for section in sections %}
<section id="section-{{ loop.index }}">
<h2>{{ section.ladder }} ladder, {{ section.name }}</h2>
<p class="label">{{ tables.LABELS[section.ladder] }}</p>
{%- for measure in section.measures %}
{{- draw(tables.scaling_table(section, measure)) }}{% endfor %}
<h3>Figures</h3>
<div class="figures">
{%- for measure in section.measures %}
<img src="data:image/svg+xml;base64,
{{- figures[section.ladder, section.name, measure] | base64 }}" alt="
{{- measure }} against {{ across(section)[0] }}, a line per row of the table">
{%- endfor %}
</div>
{%- for table in tables.detail_tables(section) %}{{ draw(table) }}{% endfor %}
<div class="text">
{%- for table in tables.provenance_tables(section) %}{{ draw(table) }}{% endfor -%}
</div>
</section>
{%- endfor %}
</body>
</html>
"""


def page(
    sections: Sequence[Section],
    overviews: Mapping[str, tables.Table],
    figures: Mapping[tuple[str, str, str], bytes],
) -> str:
    """The page; `figures` holds the SVG bytes by (ladder, collection, measure)."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    render = environment.from_string(TEMPLATE).render
    return render(
        sections=sections, overviews=overviews, figures=figures, tables=tables, across=across
    )
