"""Chapters of a page of findings: what each asks and shows, as conf/chapter says, as Markdown."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import Any

import numpy as np
import yaml

from lion_sweep.config.composing import config_folder
from lion_sweep.config.ladder import LABELS
from lion_sweep.errors import UserError
from lion_sweep.evaluation.significance import holm
from lion_sweep.report.collect import Asked, CellResult, collect, number, unfinished
from lion_sweep.report.costs import efficiency_table
from lion_sweep.report.exports import markdown_table
from lion_sweep.report.failures import failures_table
from lion_sweep.report.findings import findings_table
from lion_sweep.report.layout import HOLE, Table
from lion_sweep.report.overview import by_ladder, overviews
from lion_sweep.report.sections import Choices, Section, sections
from lion_sweep.report.significance import ALPHA
from lion_sweep.report.statements import Statement, read_statements, statements_of, study
from lion_sweep.report.tables import scaling_table

ROOT, COLLECTIONS = "$ROOT", "$COLLECTIONS"
"""Of a command: the chapter's folder of outputs, and the folder that its collections lie in."""
TYPED = Path("outputs/findings")
"""Where commands are shown to leave their outputs, wherever those of a page lie."""
WIDTH = 100
WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""")


@dataclass(frozen=True)
class Chapter:
    """What is asked, the commands that make the results, and what these can say and cannot.

    Of `grid`, values by key, all combinations are shown, those that never ran as holes.
    """

    name: str
    title: str
    question: str
    commands: tuple[str, ...]
    says: str
    silent: str
    grid: Mapping[str, Sequence[str]]
    statements: tuple[Statement, ...]
    costs: bool  # whether it shows what search takes

    def shown(self, root: Path) -> list[str]:
        """The commands as they are typed, with their outputs below `root`."""
        return [command.replace(ROOT, str(root / self.name)) for command in self.commands]


def chapters(folder: Path | None = None) -> list[Chapter]:
    """Every file of conf/chapter, in the order of their names.

    Raises `UserError` naming the file and the key that is wrong.
    """
    where = folder or config_folder() / "chapter"
    return [_read(path) for path in sorted(where.glob("*.yaml"))]


def _read(path: Path) -> Chapter:
    try:
        told = dict(yaml.safe_load(path.read_text("utf-8")))
        claims = told.pop("statements", {})
        statements = read_statements(study()) if claims == "study" else statements_of(claims, path)
        title, question, says, silent = (
            str(told.pop(key)).strip() for key in ("title", "question", "says", "silent")
        )
        found = Chapter(
            path.stem,
            title,
            question,
            commands=tuple(" ".join(str(command).split()) for command in told.pop("commands")),
            says=says,
            silent=silent,
            grid={key: list(map(str, values)) for key, values in told.pop("grid", {}).items()},
            statements=statements,
            costs=bool(told.pop("costs", False)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: {said}; conf/chapter/a-stand-ins.yaml has the form") from None
    if told:
        raise UserError(f"{path}: '{next(iter(told))}' is no part of a chapter")
    return found


def markdown(chapter: Chapter, root: Path) -> str:
    """Its part of the page, from the results below `root`."""
    folder = root / chapter.name
    results, begun = collect(folder), unfinished(folder)
    parts = [f"## {chapter.title}", fill(chapter.question, WIDTH)]
    parts += ["\n".join(f"    {_wrapped(one)}" for one in chapter.shown(TYPED))]
    if results:
        parts += _results(chapter, results, begun)
    else:
        state = f"{len(begun)} cells were asked for, none has a result" if begun else "Not run"
        parts.append(f"**{state}.**")
    ends = f"**It can say** {chapter.says}", f"**It cannot say** {chapter.silent}"
    return "\n\n".join([*parts, *(fill(end, WIDTH) for end in ends)])


def _wrapped(command: str) -> str:
    lines = [""]
    for word in WORD.findall(command):
        if lines[-1] and len(lines[-1]) + len(word) > WIDTH:
            lines.append("")
        lines[-1] += f"{' ' * bool(lines[-1])}{word}"
    return " \\\n        ".join(lines)


def _results(chapter: Chapter, results: list[CellResult], begun: list[Asked]) -> Iterator[str]:
    choices = Choices(statements=chapter.statements)
    parts = sections(results, begun, grid=chapter.grid, choices=choices)
    counted = f"{len(results)} of {len(results) + len(begun)}"
    yield f"{counted} cells that were asked for have a result, seeds counted apart."
    for ladder, of_ladder in by_ladder(parts).items():
        yield f"**{LABELS[ladder]}**"
        over_all = overviews(of_ladder).get(ladder)
        tables = [findings_table(ladder, of_ladder), over_all]
        for section in of_ladder:
            tables += [scaling_table(section, section.main), gains_table(section)]
            tables += [efficiency_table(section)] if chapter.costs else []
        tables.append(failures_table(ladder, of_ladder))
        yield from (markdown_table(table) for table in tables if table)


def gains_table(section: Section) -> Table | None:
    """What training adds to the untrained model, and p of the paired randomisation test; None where
    no cell was scored untrained. Of several seeds the mean, and the largest p."""
    axes = section.axes
    found = {cell: _gain(section, of_cell) for cell, of_cell in section.results.items()}
    known = {cell: gain for cell, gain in found.items() if gain}
    if not known:
        return None
    p_adjusted = dict(zip(known, holm(np.array([p for _, p in known.values()])), strict=True))
    above = [c for c, (gain, _) in known.items() if gain > 0 and p_adjusted[c] <= ALPHA]
    others = ", ".join(axes.name(cell) for cell in known if cell not in above)
    said = f"{len(above)} of {len(known)} cells are significantly above their untrained selves, "
    said += f"after Holm's correction, level {ALPHA}{f'; not {others}' if others else ''}."
    rows = []
    for row, name in axes.rows.items():
        gains = [found.get(cell) if cell else None for cell in axes.line(row)]
        rows.append([name, *(f"{g[0]:+.4f}, p {g[1]:.2g}" if g else HOLE for g in gains)])
    header = ["", *(axes.said(axes.columns, value) for value in axes.across)]
    return Table(f"Gain in {section.main} over the untrained, {section.name}", header, rows, [said])


def _gain(section: Section, results: Sequence[CellResult]) -> tuple[float, float] | None:
    told = [_of(result.gain, section) for result in results]
    known = [(gain, p) for gain, p in told if gain is not None and p is not None]
    if not known:
        return None
    return fmean(gain for gain, _ in known), max(p for _, p in known)


def _of(gain: Mapping[str, Any], section: Section) -> tuple[float | None, float | None]:
    return number(gain, section.collection, section.main), number(gain, section.collection, "p")
