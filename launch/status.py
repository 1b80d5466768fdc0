"""Where every cell is, from its folder, the record of its submission and the scheduler.

The states are those a person needs: new, queued, running, finished, failed, blocked, cancelled.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lion_sweep.cell.tasks import (
    ADAPT,
    NEGATIVES,
    PREPARE,
    TEACHER,
    WHEREABOUTS,
    Task,
    full_names,
    read_attempts,
)
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, read_note, write_json
from lion_sweep.machine import board, screen
from lion_sweep.machine.board import (
    BLOCKED,
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    NEW,
    QUEUED,
    RUNNING,
    Row,
    spent,
)
from lion_sweep.machine.progress import duration

__all__ = ["BLOCKED", "CANCELLED", "ENDED", "FAILED", "FINISHED", "NEW", "QUEUED", "RUNNING"]

ALL_FINISHED, UNFINISHED, SOME_FAILED = 0, 3, 4
INTERRUPTED = "interrupted"  # outcome of an attempt, and class of a failure that is not its own
SHARED = PREPARE, ADAPT, NEGATIVES, TEACHER  # what is done for cells of any axes
SUBMISSION = "submission.json"  # of a task's folder
WHERE = ("stage", "done", "total", "seconds_left", "rate", "loss")  # of a progress file
LOG_LINES = 3
POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Submission:
    """A task's last submission; `job` is None until the scheduler has given it an id.

    It is written before the job is submitted, with a token that the job's name carries, and again
    with its id. So a launcher that was killed in between has left a trace of the job to the next.
    """

    token: str
    launcher: str
    job: str | None = None
    time: float | None = None
    request: dict[str, Any] | None = None

    def write(self, folder: Path) -> None:
        write_json(folder / SUBMISSION, asdict(self))


def read_submission(folder: Path) -> Submission | None:
    """The last submission of the task in `folder`, or None.

    Raises `UserError` where it cannot be read: its job may run.
    """
    path = folder / SUBMISSION
    try:
        return Submission(**read_json(path)) if path.is_file() else None
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({error}), and told of a job of this task: see that none runs "
            "(squeue, or ps), delete it, and give the command again."
        ) from None


def job_of(folder: Path, launcher: str) -> str:
    """The job that a launcher has the task in `folder` done by; empty where there is none."""
    record = read_submission(folder)
    return (record.job or "") if record and record.launcher == launcher else ""


def job_log(root: Path, job: str, rank: int = 0) -> Path:
    """What a rank of the job has printed, and SLURM on behalf of the first."""
    return root / "jobs" / job / f"{job}_{rank}_log.out"


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
    seconds: float | None = None  # of all its attempts

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.task.name,
            "kind": self.task.kind,
            "axes": None if self.task.kind in SHARED else self.task.shown.axes,
            "state": self.state,
            "attempts": self.attempts,
            "job": self.job or None,
            "failure": self.failure,
            "reason": self.reason or None,
            **{key: self.where.get(key) for key in WHERE},
        }

    def row(self, name: str) -> Row:
        """Of the table on a terminal."""
        if self.state == RUNNING:
            return Row.running(name, self.where, self.seconds, self.task.kind)
        failed = self.failure["class"] if self.failure else ""
        said = self.score if self.state == FINISHED else failed or self.reason
        return Row(name, self.state, self.task.kind, said, self.seconds)


def status_of(task: Task, job: str, standing: Standing | None) -> Status:
    """Where a task is; `standing` is None where no scheduler knows of its job."""
    attempts = read_attempts(task.folder)
    last = attempts[-1] if attempts else {}
    where = read_note(task.folder / WHEREABOUTS)
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
    score, took = _score(task.folder / "result.json"), spent(attempts, running=state == RUNNING)
    return Status(task, state, job, len(attempts), failure, reason, where, score, took)


def _score(path: Path) -> str:
    for data, means in read_note(path).get("scores", {}).items():
        measure, value = next(iter(means.items()))
        return f"{measure} {value:.4f} on {data}"
    return ""


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
    again = "what has failed is done again by the grid's command with site.retry=failed"
    more = ["", again] if counts[FAILED] + counts[BLOCKED] else []
    return "\n".join([*lines, *_failures(statuses, names), *more, "", total])


def _remark(status: Status) -> str:
    if status.state == FINISHED:
        return status.score
    if status.state == RUNNING and (where := status.where):
        ago, seconds = time.time() - where["time"], where["seconds_left"]
        done = "" if where["done"] is None else f" {where['done']}/{where['total'] or '?'}"
        left = f", {duration(seconds)} left in it" if seconds else ""
        silent = f", silent for {duration(ago)}" if ago > 60 else ""
        return f"{where['stage']}{done}{left}{silent}"
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


Survey = Callable[[], list[Status]]


class Watch:
    """Where tasks are, looked up now and then (`look`), as a table on a terminal (`drawn`)."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self.statuses: list[Status] = []
        self._names: dict[str, str] = {}
        self._rows: list[Row] = []
        self._trouble = ""

    def look(self) -> None:
        """Look it up; where the scheduler does not answer, say so and keep what was known."""
        try:
            found = self._survey()
        except UserError as error:
            self._trouble = str(error)
            return
        if self._names.keys() != {one.task.name for one in found}:
            self._names = full_names([one.task for one in found])
        self.statuses, self._trouble = found, ""
        self._rows = [one.row(self._names[one.task.name]) for one in found]

    def drawn(self, columns: int, lines: int) -> board.Drawn:
        """The table of what was found."""
        return board.drawn(self._rows, columns, lines, self._trouble)


def watch(survey: Survey) -> int:
    """Show the table until every task has ended; returns the exit status."""
    shown = Watch(survey)
    shown.look()
    with screen.shown(shown.drawn, sys.stdout):
        while not shown.statuses or any(one.state not in ENDED for one in shown.statuses):
            time.sleep(POLL_SECONDS)
            shown.look()
    print(as_table(shown.statuses), flush=True)
    return exit_status(shown.statuses)


def follow(survey: Survey) -> int:
    """Show what changes until every task has ended, or Ctrl-C; returns the exit status."""
    try:
        return watch(survey) if screen.fits(sys.stdout) else _followed_in_lines(survey)
    except KeyboardInterrupt:
        print("\nno longer following; the jobs go on.")
        return UNFINISHED


def _followed_in_lines(survey: Survey) -> int:
    """Print what changes until every task has ended; returns the exit status."""
    shown: dict[str, str] = {}
    while True:
        try:
            statuses = survey()
        except UserError as error:  # no answer from the scheduler, which is asked again
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
