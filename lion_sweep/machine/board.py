"""The table of a grid while it runs: where each cell is, how many are done, how long is left."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lion_sweep.machine.progress import duration

FINISHED, RUNNING, QUEUED, FAILED = "finished", "running", "queued", "failed"
BLOCKED, CANCELLED, NEW = "blocked", "cancelled", "new"
ENDED = (FINISHED, FAILED, BLOCKED, CANCELLED)
# Which are shown where there is no room for all: the first states first.
WORTH = (RUNNING, FAILED, BLOCKED, QUEUED, NEW, CANCELLED, FINISHED)
STYLES = {RUNNING: "cyan", FINISHED: "green", FAILED: "bold red", BLOCKED: "red"}
BAR, GAP, LEAST, MOST_SAID = 10, 2, 14, 34  # columns of the terminal
# What a narrow terminal leaves out, the first one first.
SPARE = ("rate", "loss", "bar", "done", "left", "at")


HEADS = {
    "name": "cell",
    "state": "state",
    "at": "stage",
    "bar": "",
    "done": "done",
    "rate": "rate",
    "left": "left",
    "loss": "loss",
}


Drawn = RenderableType


@dataclass(frozen=True)
class Row:
    """Where one cell, or what cells wait for, is; None is what nobody knows."""

    name: str
    state: str
    kind: str = "cell"
    said: str = ""  # a score, or why it waits or failed
    seconds: float | None = None  # that were spent on it until now
    stage: str = ""
    done: int | None = None
    total: int | None = None
    rate: float | None = None  # steps, passages, ... a second
    left: float | None = None  # seconds, of the stage
    loss: float | None = None

    @classmethod
    def running(
        cls, name: str, where: Mapping[str, Any], seconds: float | None, kind: str = "cell"
    ) -> "Row":
        """Of a cell whose progress file says where it is; an empty one says nothing yet."""
        told = (where.get(key) for key in ("done", "total", "rate", "seconds_left", "loss"))
        return cls(name, RUNNING, kind, "", seconds, where.get("stage") or "", *told)

    @property
    def at(self) -> str:
        """The stage, or what else there is to say."""
        return self.stage if self.state == RUNNING and self.stage else self.said


def spent(attempts: Sequence[Mapping[str, Any]], *, running: bool) -> float | None:
    """Seconds that attempts took by their records; of one that was killed nobody knows.

    None where there was none.
    """
    begun = [one for one in attempts if "started" in one]
    ends = [one["ended"] for one in begun]
    if running and ends and ends[-1] is None:
        ends[-1] = time.time()
    told = zip(begun, ends, strict=True)
    known = [end - one["started"] for one, end in told if end is not None]
    return sum(known) if known else None


def seconds_left(rows: Sequence[Row]) -> float | None:
    """How long the others will take, going by those that have finished and by how many run.

    None where of some kind none has finished, so that nobody knows.
    """
    took: dict[str, list[float]] = {}
    for row in rows:
        if row.state == FINISHED and row.seconds:
            took.setdefault(row.kind, []).append(row.seconds)
    usual = {kind: sum(each) / len(each) for kind, each in took.items()}
    open_ = [row for row in rows if row.state not in ENDED]
    if any(row.kind not in usual for row in open_):
        return None
    work = sum(max(usual[row.kind] - (row.seconds or 0.0), 0.0) for row in open_)
    return work / max(1, sum(row.state == RUNNING for row in rows))


def rough(seconds: float) -> str:
    """As in 45 s, 12 min, 3.4 h: no more digits than an estimate has."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def counted(states: Iterable[str]) -> str:
    """As in '3 finished, 1 running'."""
    found = Counter(states)
    order = sorted(found, key=(FINISHED, *WORTH).index)
    return ", ".join(f"{found[state]:,} {state}" for state in order)


def footer(rows: Sequence[Row]) -> str:
    """How many are done, what all of them took, how long the others will."""
    done = sum(row.state == FINISHED for row in rows)
    words = [f"{done:,} of {len(rows):,} finished"]
    if any(row.state not in ENDED for row in rows):
        left = seconds_left(rows)
        words.append("time left not known yet" if left is None else f"about {rough(left)} left")
    if took := sum(row.seconds or 0.0 for row in rows):
        words.append(f"{rough(took)} spent")
    others = counted(row.state for row in rows if row.state != FINISHED)
    return ", ".join([*words, *filter(None, [others])])


def drawn(rows: Sequence[Row], columns: int, lines: int, said: str = "") -> Drawn:
    """The table in so many columns and lines of a terminal, with a last line to say something."""
    below = [Text(text, style, no_wrap=True, overflow="ellipsis") for text, style in (
        (footer(rows), "bold"), (said, "red")) if text]  # fmt: skip
    room = lines - 1 - len(below)  # the cursor stands below
    chosen, others = _chosen(rows, room - 1)
    if room < 2 or not chosen:
        return Group(*below)
    more = f"... and {counted(row.state for row in others)}" if others else ""
    told = [Text(more, "dim", no_wrap=True, overflow="ellipsis")] if more else []
    return Group(_table(chosen, columns - 1), *told, *below)


def _chosen(rows: Sequence[Row], room: int) -> tuple[list[Row], list[Row]]:
    """Those that are shown, in their order, and the others."""
    if len(rows) <= room:
        return list(rows), []
    # Of finished ones the last are news, of those that wait the next.
    numbers = sorted(
        range(len(rows)),
        key=lambda n: (WORTH.index(rows[n].state), -n if rows[n].state == FINISHED else n),
    )
    shown = set(numbers[: max(0, room - 1)])  # and a line for the others
    return [rows[n] for n in sorted(shown)], [rows[n] for n in range(len(rows)) if n not in shown]


def _table(rows: Sequence[Row], width: int) -> Table:
    """The rows in columns of `width` in all; those that do not fit, or are empty, are left out."""
    told = [_texts(row) for row in rows]
    wide = {key: max(cell_len(one[key]) for one in told) for key in HEADS}
    wide["bar"] = BAR if any(row.total for row in rows) else 0
    wide = {key: max(size, len(HEADS[key])) for key, size in wide.items() if size}
    longest = {"at": min(wide.get("at", 0), MOST_SAID), "name": wide["name"]}
    wide |= {key: min(size, LEAST) for key, size in longest.items() if size}
    for key in SPARE:
        if sum(wide.values()) + GAP * (len(wide) - 1) > width:
            wide.pop(key, None)
    for key, size in longest.items():
        free = width - sum(wide.values()) - GAP * (len(wide) - 1)
        if key in wide:
            wide[key] = max(1, min(size, wide[key] + free))
    order = [key for key in HEADS if wide.get(key)]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for key in order:
        justify: Any = "right" if key in ("done", "rate", "left", "loss") else "left"
        table.add_column(
            HEADS[key], width=wide[key], justify=justify, no_wrap=True, overflow="ellipsis"
        )
    for row, texts in zip(rows, told, strict=True):
        cells: dict[str, RenderableType] = {key: Text(text) for key, text in texts.items()}
        cells["state"] = Text(row.state, STYLES.get(row.state, "dim"))
        if row.total:
            done = min(row.done or 0, row.total)
            cells["bar"] = ProgressBar(total=row.total, completed=done, width=BAR)
        table.add_row(*(cells[key] for key in order))
    return table


def _texts(row: Row) -> dict[str, str]:
    """What stands in each column but the bar's."""
    runs = row.state == RUNNING
    total = f"/{row.total:,}" if row.total else ""
    done = "" if row.done is None else f"{row.done:,}{total}"
    return {
        "name": row.name,
        "state": row.state,
        "at": row.at,
        "bar": "",
        "done": done if runs else "",
        "rate": _rate(row.rate) if runs and row.rate else "",
        "left": duration(row.left) if runs and row.left is not None else "",
        "loss": f"{row.loss:.3f}" if runs and row.loss is not None else "",
    }


def _rate(rate: float) -> str:
    return f"{rate:,.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each"
