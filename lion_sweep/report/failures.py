"""Cells that were asked for and have no result: how their attempts ended."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.files import read_note
from lion_sweep.report.axes import SEED, Cell
from lion_sweep.report.collect import Asked
from lion_sweep.report.layout import HOLE, Table
from lion_sweep.report.sections import Section
from lion_sweep.result import RESULT

ATTEMPTS, TASK = "attempts", "task.json"  # as lion_sweep/cell/tasks.py writes them
SAID = 300  # characters of a message that a table holds


@dataclass(frozen=True)
class Ending:
    """Where a cell without a result is: state, attempts, the last one's time, what was said."""

    state: str
    attempts: int
    when: float | None = None
    said: str = ""


def ending(folder: Path | None) -> Ending:
    """How the attempts that a cell's folder records have ended, the last one above all."""
    if folder is None:
        return Ending("not asked to run", 0)
    records = _attempts(folder)
    last = records[-1] if records else {}
    outcome, failure = last.get("outcome"), _mapping(last.get("failure"))
    ended = last.get("ended") or last.get("started")
    when = ended if isinstance(ended, int | float) else None
    if (folder / RESULT).is_file():
        return Ending("result cannot be read", len(records), when)
    if not records:
        needed = _failed_before(folder)
        return needed or Ending("not begun", 0)
    if outcome == "failed":
        kind = str(failure.get("class", "of unknown cause"))
        return Ending(f"failed: {kind}", len(records), when, str(failure.get("message", "")))
    if outcome == "running":
        said = "runs, or was killed without a word; `python -m lion_sweep.status` knows more"
        return Ending("no end recorded", len(records), when, said)
    return Ending(str(outcome or "attempt cannot be read"), len(records), when)


def states(begun: Iterable[Asked]) -> str:
    """How many of the cells that were begun ended how, in a line."""
    counts = Counter(ending(one.folder).state for one in begun)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _failed_before(folder: Path) -> Ending | None:
    """A failure of what the cell waits for, as the task that was frozen names it."""
    needs = read_note(folder / TASK).get("needs")
    for name in needs if isinstance(needs, list) else []:
        records = _attempts(folder.parent.parent / "shared" / str(name))
        if records and records[-1].get("outcome") == "failed":
            failure = _mapping(records[-1].get("failure"))
            said = f"{failure.get('class', '')}: {failure.get('message', '')}"
            return Ending(f"waits for {name}, which failed", 0, None, said)
    return None


def _attempts(folder: Path) -> list[dict[str, Any]]:
    return [read_note(path) for path in sorted((folder / ATTEMPTS).glob("*.json"))]


def _mapping(told: Any) -> dict[str, Any]:
    return told if isinstance(told, dict) else {}


def failures_table(ladder: str, sections: Sequence[Section]) -> Table | None:
    """A row per cell and seed of the ladder without a result; None where there is none."""
    found: dict[tuple[str, str, str], Ending] = {}
    for section in sections:
        begun = {cell for cell, _ in section.begun}
        missing: list[tuple[Cell, Asked | None]] = [*section.begun]
        # Holes of a collection alone have a result elsewhere: their tables say so.
        missing += [
            (cell, None)
            for cell, results in section.results.items()
            if not results and cell not in begun and not _elsewhere(cell, section, sections)
        ]
        for cell, asked in missing:
            folder = asked.folder if asked else None
            seed = asked.settings.get(SEED, HOLE) if asked else HOLE
            key = section.axes.name(cell), seed, folder.name if folder else HOLE
            if key not in found:
                found[key] = ending(folder)
    if not found:
        return None
    names = [section.axes.name(cell) for section in sections for cell in section.axes.ordered]
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    rows = [
        [*key, one.state, str(one.attempts), _when(one.when), _short(one.said)]
        for key, one in sorted(found.items(), key=lambda item: (order[item[0][0]], *item[0]))
    ]
    return Table(
        title=f"Cells without a result, {ladder} ladder",
        header=["Cell", "Seed", "Id", "State", "Attempts", "Last (UTC)", "What was said"],
        rows=rows,
        below=[
            f"{len(rows)} missing. State is how the last attempt ended. The same command goes on "
            "with what was interrupted, and with site.retry=failed also with what has failed."
        ],
    )


def _elsewhere(cell: Cell, section: Section, sections: Sequence[Section]) -> bool:
    name = section.axes.name(cell)
    return any(found == name for other in sections for _, found, _ in other.named)


def _when(seconds: float | None) -> str:
    return HOLE if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return (line if len(line) <= SAID else f"{line[:SAID]} ...") or HOLE
