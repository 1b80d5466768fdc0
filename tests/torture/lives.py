"""The life of a cell under faults: attempt after attempt until it is finished, and what came of it.

Every attempt is a process, forked off one that has all libraries, that does the cell's task below
a folder of its own until a fault ends it, or more of them do at the same time. Between attempts
files are damaged. Whatever happens, three things must not: that something finished is gone (lost),
that something is done or told twice (duplicated), that a number differs from an undisturbed life.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from lion_sweep import verify
from lion_sweep.cell import work
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import Task
from lion_sweep.config import Config, changed
from lion_sweep.config.site import SiteName
from lion_sweep.errors import Interrupted, Superseded, UserError
from lion_sweep.machine import interruption
from lion_sweep.machine.history import HISTORY, read_rows
from lion_sweep.machine.progress import Progress
from lion_sweep.result import RESULT, Result, read_result
from lion_sweep.stages import engine
from lion_sweep.stages.of_cell import stages_of
from lion_sweep.stages.workshop import Workshop
from torture.preload import (
    ERRORS,
    FAIL,
    KILL_AFTER,
    KILL_BEFORE,
    KILL_HALF_WAY,
    NOTHING,
    Fault,
    disarm,
)

FINISHED, STOPPED, REFUSED, ODD = 0, 3, 4, 5  # exit status of an attempt
FORGOTTEN = 180.0  # seconds after which an attempt hangs
WRITES = 60  # of which one, or the first, goes wrong: some of an attempt's
MOMENT = 2.5  # seconds in which a signal comes
DAY = 86_400
NUMBERS = "scores", "untrained", "gain", "bm25", "entropy", "untrained_entropy", "groups"
FILES = "runs/", "per_query/"
RECORDS = "history.jsonl", "points.jsonl"


def _writing(drawn: random.Random, kind: int, error: int = 0) -> Fault:
    times = drawn.choice((1, 7, 10**9)) if kind == FAIL else 1
    return Fault(kind, drawn.randint(1, WRITES), times, error)


def _jump(drawn: random.Random) -> Fault:
    off = drawn.choice((-400, -1, 1, 400)) * drawn.randint(1, DAY)
    return Fault(KILL_AFTER, drawn.randint(1, WRITES), clock=off)


ALONE: dict[str, Callable[[random.Random], Fault]] = {
    "killed before a write": lambda drawn: _writing(drawn, KILL_BEFORE),
    "killed half-way through a write": lambda drawn: _writing(drawn, KILL_HALF_WAY),
    "killed after a write": lambda drawn: _writing(drawn, KILL_AFTER),
    **{
        name: (lambda drawn, error=error: _writing(drawn, FAIL, error))
        for name, error in ERRORS.items()
    },
    "clock jump": _jump,
}
SIGNALS = {
    "SIGKILL at a moment": signal.SIGKILL,
    "SIGTERM at a moment": signal.SIGTERM,
}
DAMAGED, TOGETHER, LATE = "damaged file", "launchers on one folder", "late view of others' files"
KINDS = *ALONE, *SIGNALS, DAMAGED, TOGETHER, LATE


@dataclass
class Tally:
    """What came of some lives; the first three lists have to stay empty, and `odd` too."""

    faults: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    attempts: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)  # errors that say nothing to a person, and hangs

    @property
    def told(self) -> list[str]:
        """All that has to be looked at."""
        return self.lost + self.duplicated + self.differing + self.odd

    def __iadd__(self, other: "Tally") -> "Tally":
        self.faults += other.faults
        self.lives, self.attempts = self.lives + other.lives, self.attempts + other.attempts
        for name in ("lost", "duplicated", "differing", "odd"):
            getattr(self, name).extend(getattr(other, name))
        return self


def do(config: Config, root: Path) -> None:
    """A cell's task, as a command does it; raises what ends it."""
    config = changed(config, {"paths.root": str(root)})
    cell = Cell(config, stages_of(config, Workshop(root, Progress("plan", None))))
    task = Task.of(cell)
    task.freeze()
    if not cell.complete:
        work.do(task, SiteName.laptop)
    cell.read_result()


def attempt(config: Config, root: Path, fault: Fault, out: Path) -> int:
    """Fork a process that does the task under a fault; its number. `out` has its last words."""
    child = os.fork()
    if not child:
        _live(config, root, fault, out)
    return child


def _live(config: Config, root: Path, fault: Fault, out: Path) -> NoReturn:
    printed = os.open(f"{out}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    status, said = FINISHED, ""
    interruption.listen(signal.SIGTERM)
    fault.arm(root)
    try:
        do(config, root)
    except (Interrupted, Superseded) as error:
        status, said = STOPPED, str(error)
    except (UserError, OSError) as error:
        status, said = REFUSED, f"{type(error).__name__}: {error}"
    except BaseException:
        status, said = ODD, traceback.format_exc()
    calls = disarm()
    out.write_text(json.dumps({"said": said, "struck": 0 < fault.nth <= calls}))
    os._exit(status)


@dataclass
class Ended:
    """How an attempt did."""

    status: int  # negative: a signal
    said: str = ""
    struck: bool = False


def ended(child: int, out: Path, strike: tuple[float, int] | None = None) -> Ended:
    """Wait for it; `strike` is a signal, and after how many seconds it gets that."""
    begun = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        spent = time.monotonic() - begun
        if strike and spent > strike[0]:
            os.kill(child, strike[1])
            strike = None
        if spent > FORGOTTEN:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Ended(ODD, f"hangs: {Path(f'{out}.log').read_text()[-300:]}")
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return Ended(code, struck=True)
    told = json.loads(out.read_text())
    return Ended(code, told["said"], told["struck"] or (strike is None and code == STOPPED))


@dataclass
class Life:
    """One cell, from nothing to its result, through some faults."""

    config: Config
    root: Path
    drawn: random.Random
    known: Result  # of an undisturbed life
    tally: Tally = field(default_factory=Tally)
    redone: set[str] = field(default_factory=set)  # stages that were removed on purpose
    records_damaged: bool = False

    def live(self, faults: int) -> Tally:
        """As many of them as come before its end."""
        name = self.root.name
        for _ in range(10 * faults):
            if self.result.is_file() or sum(self.tally.faults.values()) >= faults:
                break
            before = self._finished()
            self._suffer()
            for stage in before.keys() - self._finished().keys() - self.redone:
                self.tally.lost.append(f"{name}: {stage}")
        for _ in range(5):  # and now in peace
            end = self._attempt(Fault())
            if end.status == FINISHED:
                break
            self._mend(end)
        else:
            self.tally.lost.append(f"{name} cannot be finished: {end.said[-600:]}")
            return self.tally
        self._judge()
        self.tally.lives = 1
        return self.tally

    @property
    def cell(self) -> Path:
        return self.root / "cells" / self.known["id"]

    @property
    def result(self) -> Path:
        return self.cell / RESULT

    def _finished(self) -> dict[str, str]:
        """What is finished, by name."""
        found = (self.root / "stages").glob(f"*/{engine.DONE}")
        names = (path.parent.name for path in found)
        return {name: name for name in names if not name.endswith(".partial")}

    def _out(self) -> Path:
        self.tally.attempts += 1
        return self.root.with_name(f"{self.root.name}.{self.tally.attempts}.said")

    def _attempt(self, fault: Fault, strike: tuple[float, int] | None = None) -> Ended:
        out = self._out()
        return ended(attempt(self.config, self.root, fault, out), out, strike)

    def _suffer(self) -> None:
        """One more fault, of any kind."""
        kind = self.drawn.choice(KINDS)
        if kind in ALONE:
            ends = [self._attempt(ALONE[kind](self.drawn))]
            struck = ends[0].struck
        elif kind in SIGNALS:
            strike = self.drawn.uniform(0, MOMENT), SIGNALS[kind]
            ends = [self._attempt(Fault(), strike)]
            struck = ends[0].status in (STOPPED, -SIGNALS[kind])
        elif kind == DAMAGED:
            struck = self._damage()
            ends = [self._attempt(Fault(KILL_AFTER, self.drawn.randint(1, WRITES)))]
        else:
            ends, struck = self._together(late=kind == LATE), True
        self.tally.faults[kind] += struck
        for end in ends:
            self._mend(end)

    def _together(self, *, late: bool) -> list[Ended]:
        """Two to eight at the same time, most of which come to grief."""
        begun = []
        for _ in range(self.drawn.randint(2, 3 if late else 8)):
            kind = self.drawn.choice((NOTHING, KILL_BEFORE, KILL_HALF_WAY, KILL_AFTER))
            lag = self.drawn.uniform(0.02, 0.5) if late else 0.0
            out = self._out()
            fault = Fault(kind, self.drawn.randint(1, WRITES), lag=lag)
            begun.append((attempt(self.config, self.root, fault, out), out))
        return [ended(child, out) for child, out in begun]

    def _damage(self) -> bool:
        """A bit, or the end, of some file below the root."""
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        files = [path for path in files if path.stat().st_size]
        if not files:
            return False
        path = self.drawn.choice(files)
        content = bytearray(path.read_bytes())
        if self.drawn.random() < 0.5:
            bit = self.drawn.randrange(8 * len(content))
            content[bit // 8] ^= 1 << bit % 8
        else:
            del content[self.drawn.randrange(len(content)) :]
        path.write_bytes(content)
        self.records_damaged |= path.name in RECORDS
        return True

    def _mend(self, end: Ended) -> None:
        """Do as the message of a refusal says, as a person would."""
        if end.status == ODD:
            self.tally.odd.append(f"{self.root.name}: {end.said[-1500:]}")
        if end.status != REFUSED:
            return
        if "lion_sweep.verify --remove" in end.said:
            self._verify()
        elif path := self._to_delete(end.said):
            self.redone.add(path.name)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _to_delete(self, said: str) -> Path | None:
        """What a message asks to delete: `it` is what it speaks of first."""
        place = rf"({re.escape(str(self.root))}[^\s:,;]*)"
        found = re.search(rf"delete {place}", said) or re.search(rf"{place}.*delete it", said)
        return Path(found[1]) if found else None

    def _verify(self) -> None:
        before = self._finished()
        if not (child := os.fork()):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = ODD
            try:
                status = verify.main([f"--root={self.root}", "--remove"])
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            self.tally.odd.append(f"{self.root.name}: verify --remove failed")
        self.redone |= before.keys() - self._finished().keys()

    def _judge(self) -> None:
        """What was found, and how often it was done, beside the undisturbed life."""
        name, found = self.root.name, read_result(self.result)
        for key in NUMBERS:
            if found[key] != self.known[key]:  # type: ignore[literal-required]
                self.tally.differing.append(f"{name}: {key}")
        for file, digest in self.known["files"].items():
            if file.startswith(FILES) and found["files"].get(file) != digest:
                self.tally.differing.append(f"{name}: {file}")
        if list(self._damaged(found)):
            self.tally.lost.append(f"{name}: {', '.join(self._damaged(found))}")
        steps = [row["step"] for row, _ in read_rows(self.cell / HISTORY)]
        total = found["ledger"]["train"]["spent"]["steps"]
        lines = len((self.cell / HISTORY).read_text().splitlines())
        if len(steps) != lines:
            self.tally.duplicated.append(f"{name}: {lines} lines of {len(steps)} steps")
        if steps != list(range(1, total + 1)) and not self.records_damaged:
            self.tally.lost.append(f"{name}: steps {steps} of {total}")
        for stage, times in self._times_finished().items():
            if times > 1 and found["stages"][stage]["folder"] not in self.redone:
                self.tally.duplicated.append(f"{name}: {stage} was finished {times} times")

    def _damaged(self, found: Result) -> Iterator[str]:
        """Stages of the result that are not there, or not what they were."""
        for stage in found["stages"].values():
            if not engine.find(self.root / "stages" / stage["folder"]):
                yield stage["folder"]

    def _times_finished(self) -> Counter[str]:
        log = (self.cell / "log.txt").read_text(errors="replace")
        told = Counter(re.findall(r"^\S+ (.+) finished \(", log, re.MULTILINE))
        known = self.known["stages"]
        return Counter({stage: n for stage, n in told.items() if stage in known})


def undisturbed(config: Config, root: Path) -> Result:
    """What becomes of a cell to which nothing happens."""
    out = root.with_name(f"{root.name}.said")
    end = ended(attempt(config, root, Fault(), out), out)
    if end.status != FINISHED:
        print(end.said, file=sys.stderr)
        raise SystemExit("a cell to which nothing happened has failed")
    (path,) = root.glob(f"cells/*/{RESULT}")
    return read_result(path)
