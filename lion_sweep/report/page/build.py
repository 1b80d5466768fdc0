"""The page as one file: the template, the styles, the scripts and the data in it, once each."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lion_sweep.config.ladder import CAVEATS
from lion_sweep.errors import trace
from lion_sweep.report import law_figures
from lion_sweep.report.figures import finite, scaling_spec, tradeoff_spec
from lion_sweep.report.page import cells, charts, content, story
from lion_sweep.report.page.commands import Commands
from lion_sweep.report.sections import Section
from lion_sweep.report.tables import Table
from lion_sweep.report.topk import topk_spec

HERE = Path(__file__).parent
SCRIPTS = ("format.js", "table.js", "charts.js", "cell.js", "page.js")
LIBRARY = "window.vegaEmbed = vegaEmbed;"

Chapter = tuple[str, str, list[Table]]  # title, label, tables


def page(sections: Sequence[Section], chapters: Sequence[Chapter], files: Sequence[str]) -> str:
    """The page; `chapters` are shown as they are, `files` are the names of files beside it."""
    shown = cells.shown(sections)
    library = _library()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    told = story.stories(sections, shown)
    return environment.get_template("page.html").render(
        stories=told,
        chapters=chapters,
        files=files,
        styles=_part("page.css"),
        scripts=[_part(name) for name in SCRIPTS],
        library=Markup(library),
        data=embedded(data(sections, shown, bool(library))),
    )


def data(
    sections: Sequence[Section], shown: Mapping[str, cells.Shown], drawable: bool
) -> dict[str, Any]:
    """All that the scripts show. Sections have a specification for each chart with data."""
    roots = {one.result.folder.parent for one in shown.values()}
    holes = cells.holes(sections, sorted(roots))
    share = content.share_of_queries(sections)
    told = []
    for section in sections:
        entry = content.section_data(section, holes, share)
        entry["charts"] = _charts(section, entry) if drawable else {}
        told.append(entry)
    with Commands() as commands:
        of_cells = cells.cell_data(shown, sections, commands)
    ladders = dict.fromkeys(section.ladder for section in sections)
    sets = {ladder: _sets(sections, ladder) for ladder in ladders} if drawable else {}
    generic = {"one": charts.one_curve_spec(), "wins": charts.wins_spec()} if drawable else {}
    cautions = {name: CAVEATS[name].title for name in ladders if name in CAVEATS}
    parts = {"sections": told, "sets": sets, "charts": generic, "cautions": cautions}
    return {**parts, **of_cells}


def _charts(section: Section, entry: Mapping[str, Any]) -> dict[str, Any]:
    titles = {cost["key"]: cost["title"] for cost in entry["costs"]}
    return {
        "scaling": scaling_spec(section, section.main),
        "curves": charts.curves_spec(section),
        "topk": topk_spec(section),
        "tradeoffs": {
            key: tradeoff_spec(section, key, titles[key]) for key in content.TRADED if key in titles
        },
        "profiles": {
            group.name: law_figures.profiles(section, group)
            for group in law_figures.drawable(section)
        },
    }


def _sets(sections: Sequence[Section], ladder: str) -> dict[str, Any] | None:
    """The chart of several sets, or None of one."""
    here = [section for section in sections if section.ladder == ladder]
    if len(here) < 2:
        return None
    names, mains = [s.name for s in here], dict.fromkeys(s.main for s in here)
    spec = charts.sets_spec(names, " or ".join(mains))
    return {"spec": spec, "rows": charts.set_rows(here)}


def _part(name: str) -> Markup:
    return Markup((HERE / name).read_text("utf-8"))


def embedded(value: Any) -> Markup:
    """JSON for a script element, which no text inside it can end."""
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; empty where it cannot be had."""
    try:
        import vl_convert  # here, as a page without charts does without it

        bundle = vl_convert.javascript_bundle(LIBRARY)
    except Exception as error:  # of a platform that it is not built for: tables do not need it
        trace(error)
        return ""
    # Its names stay within; no text in it ends the script.
    closed = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return f"(() => {{{closed}\n}})();"
