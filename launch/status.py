"""Where every cell is, from its folder and the scheduler.

The states are those a person needs: new, queued, running, finished, failed, blocked, cancelled.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.cell.names import axes
from lion_sweep.cell.tasks import ADAPT, TEACHER, WHEREABOUTS, Task, full_names, read_attempts
from lion_sweep.errors import UserError
from lion_sweep.files import read_json
from lion_sweep.machine.progress import duration

FINISHED, RUNNING, QUEUED, FAILED = "finished", "running", "queued", "failed"
BLOCKED, CANCELLED, NEW = "blocked", "cancelled", "new"
ENDED = (FINISHED, FAILED, BLOCKED, CANCELLED)
ALL_FINISHED, UNFINISHED, SOME_FAILED = 0, 3, 4
INTERRUPTED = "interrupted"  # outcome of an attempt, and class of a failure that is not its own
LOG_LINES = 3
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Standing:
    """What the scheduler says of a task's job: a state from above, why, and a failure's class."""

    state: str
    reason: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Status:
    """Where one task is."""

    task: Task
    state: str
    job: str
    attempts: int
    failure: dict[str, str] | None
    reason: str
    where: dict[str, Any]
    score: str

    def as_dict(self) -> dict[str, Any]:
        """The JSON row."""
        return {
            "id": self.task.name,
            "kind": self.task.kind,
            "axes": None if self.task.kind in (ADAPT, TEACHER) else axes(self.task.config),
            "state": self.state,
            "attempts": self.attempts,
            "job": self.job or None,
            "failure": self.failure,
            "reason": self.reason or None,
            "stage": self.where.get("stage"),
            "done": self.where.get("done"),
            "total": self.where.get("total"),
            "seconds_left": self.where.get("seconds_left"),
        }


def status_of(task: Task, job: str, standing: Standing | None) -> Status:
    """Where a task is; `standing` is None where no scheduler knows of its job."""
    attempts = read_attempts(task.folder)
    last = attempts[-1] if attempts else {}
    where = _read(task.folder / WHEREABOUTS)
    failure: dict[str, str] | None = None
    state, reason = NEW, ""
    if task.complete:
        state = FINISHED
    elif standing and standing.state not in ENDED:
        state, reason = standing.state, standing.reason
    elif last.get("outcome") == FAILED:
        state, failure = FAILED, last["failure"]
    elif standing:
        state, reason = standing.state, standing.reason
        if state == FINISHED:  # for the scheduler, but there is no result
            state = FAILED
        if state == FAILED:
            stopped = last.get("outcome") == INTERRUPTED  # as asked, and was to go on
            kind = INTERRUPTED if stopped else standing.failure or "killed"
            failure = {"class": kind, "message": standing.reason}
    return Status(
        task, state, job, len(attempts), failure, reason, where, _score(task.folder / "result.json")
    )


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _score(path: Path) -> str:
    scores = _read(path).get("scores", {})
    for data, means in scores.items():
        measure, value = next(iter(means.items()))
        return f"{measure} {value:.4f} on {data}"
    return ""


def past_failures(task: Task) -> list[str]:
    """Classes of the task's earlier failures that its own process could record."""
    records = read_attempts(task.folder)
    return [record["failure"]["class"] for record in records if record.get("failure")]


def as_table(statuses: list[Status]) -> str:
    """A line per task, failures of one kind together below, and how many are in each state."""
    names = full_names([status.task for status in statuses])
    rows = [("task", "state", "tries", "job", "")]
    rows += [
        (names[s.task.name], s.state, str(s.attempts), s.job or "-", _remark(s)) for s in statuses
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    counts = Counter(status.state for status in statuses)
    total = ", ".join(f"{number} {state}" for state, number in counts.items())
    return "\n".join([*lines, *_failures(statuses, names), "", total])


def _remark(status: Status) -> str:
    if status.state == FINISHED:
        return status.score
    if status.state == RUNNING and status.where:
        where = status.where
        done = "" if where["done"] is None else f" {where['done']}/{where['total'] or '?'}"
        left = where["seconds_left"]
        ago = time.time() - where["time"]
        return (
            where["stage"]
            + done
            + (f", {duration(left)} left in it" if left else "")
            + (f", silent for {duration(ago)}" if ago > 60 else "")
        )
    if status.state == FAILED and status.failure:
        return status.failure["class"]
    return status.reason


def _failures(statuses: list[Status], names: dict[str, str]) -> list[str]:
    """Each different failure once, with whom it befell and the end of one log."""
    groups: dict[tuple[str, str], list[Status]] = defaultdict(list)
    for status in statuses:
        if status.failure:
            groups[status.failure["class"], status.failure["message"]].append(status)
    lines = []
    for (kind, message), group in groups.items():
        who = ", ".join(names[status.task.name] for status in group)
        lines += ["", f"{kind} ({len(group)}): {who}", f"  {message}"]
        log = group[0].task.folder / "log.txt"
        if log.is_file():
            last = log.read_text(encoding="utf-8").rstrip().splitlines()[-LOG_LINES:]
            lines += [f"  | {line}" for line in last] + [f"  log: {log}"]
    return lines


def exit_status(statuses: list[Status]) -> int:
    """0 when all have finished, 4 when some failed, else 3."""
    states = {status.state for status in statuses}
    if states & {FAILED, BLOCKED}:
        return SOME_FAILED
    return ALL_FINISHED if states <= {FINISHED} else UNFINISHED


def follow(survey: Callable[[], list[Status]]) -> int:
    """Print what changes until every task has ended; returns the exit status.

    Ctrl-C stops following, not the jobs. A scheduler that does not answer is asked again.
    """
    shown: dict[str, str] = {}
    try:
        while True:
            try:
                statuses = survey()
            except UserError as error:
                print(error, file=sys.stderr, flush=True)
                time.sleep(POLL_SECONDS)
                continue
            if all(found.state in ENDED for found in statuses):
                print(as_table(statuses), flush=True)
                return exit_status(statuses)
            if not shown:
                print(as_table(statuses), "\n", flush=True)
            names = full_names([found.task for found in statuses])
            for found in statuses:
                name, more = names[found.task.name], found.score or found.reason
                line = f"{name}: {found.state} {more}".rstrip()
                if shown and shown.get(found.task.name) != line:
                    print(line, flush=True)
                shown[found.task.name] = line
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        print("\nno longer following; the jobs go on.")
        return UNFINISHED
