"""Faults planted in the code that makes numbers, one at a time: do tests notice?

    python -m mutants --rooms losses cost --sample 150 --minutes 30

mutmut plants them in a copy of the checkout, below .mutants/, and runs the tests of the room that
pass through the changed function until one fails. Of each room so many are tried, drawn by their
names: a larger sample has the smaller one in it. What is found stays there: a run that was cut
short goes on, changed functions are tried again, and so is what survived. Every survivor has to be
explained in explained.toml. The exit status is 0 where no other is left and at least nine faults
in ten were noticed, of those that change anything.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from mutants.explained import Explained

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
# The tests whose verdict counts for the code of a room: its own, and those of who lives off it.
ROOMS = {
    "losses": ["tests/losses", "tests/config/test_sparsity.py"],
    "cost": ["tests/cost", "tests/plan"],
    "evaluation": ["tests/evaluation"],
    "training": ["tests/training"],
    "models": ["tests/models"],
    "data": ["tests/data"],
    "search": ["tests/search"],
    "stages": ["tests/stages"],
}
ENOUGH = 0.9
AT_ONCE = 500  # names on a command line
SETTINGS = """
[tool.mutmut]
source_paths = ["lion_sweep"]
only_mutate = ["lion_sweep/{room}/*.py"]
# Words of errors are not numbers; that errors come is tested by the conditions before them.
do_not_mutate_patterns = ['^\\s*raise \\w', '^\\s*assert ', 'warnings\\.warn']
also_copy = ["launch", "conf", "docs", "benchmarks", "README.md", "Makefile", "requirements.lock"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-m", "not slurm"]
pytest_add_cli_args_test_selection = {tests}
process_isolation = "forkserver"
use_git_change_detection = false
timeout_multiplier = 4.0
timeout_constant = 5.0
"""
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "CI": "true"}
# Exit statuses of mutmut's, of which there is no public list: no test fails, none passes through.
SURVIVED, UNTRIED = {0, 5, 33}, {None, 2}
DIFFS = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
print(json.dumps({name: get_diff_for_mutant(name) for name in json.load(sys.stdin)}))
"""


@dataclass
class Found:
    """What became of the faults in a room."""

    planted: int = 0
    tried: int = 0
    noticed: int = 0
    harmless: Counter[str] = field(default_factory=Counter)  # by what makes them so
    explained: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # as a person reads them

    @property
    def share(self) -> float:
        """Noticed, of what was tried and changes anything."""
        return self.noticed / self.effective if self.effective else 1.0

    @property
    def effective(self) -> int:
        """Tried, and not without effect."""
        return self.tried - self.harmless.total()


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS))
    parser.add_argument("--sample", type=int, default=100, help="tried of each room (100; 0: all)")
    parser.add_argument("--minutes", type=float, default=25.0, help="of all rooms together (25)")
    parser.add_argument("--folder", type=Path, default=CHECKOUT / ".mutants")
    asked = parser.parse_args()
    until, explained = time.monotonic() + 60 * asked.minutes, Explained(HERE / "explained.toml")
    found = {}
    for room in asked.rooms:
        folder = asked.folder.resolve() / room
        _copy(folder)
        text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
        text += SETTINGS.format(room=room, tests=json.dumps(ROOMS[room]))
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        _plant(folder)
        drawn = _drawn(folder, asked.sample)
        again = [name for name, _ in _left(folder, explained, drawn)]
        untried = [name for name, status in drawn.items() if status in UNTRIED]
        _run(folder, until, [*again, *untried])
        found[room] = _found(folder, explained, _drawn(folder, asked.sample))
        found[room].planted = len(_statuses(folder))
    _tell(found)
    noticed = sum(room.noticed for room in found.values())
    effective = sum(room.effective for room in found.values())
    left = any(room.left for room in found.values())
    return 0 if noticed >= ENOUGH * effective and not left else 1


def _copy(folder: Path) -> None:
    """The checkout as it is, without what git ignores; what has not changed is left alone."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    told = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    names = {name for name in told.split("\0") if name and (CHECKOUT / name).is_file()}
    for name in names - {"pyproject.toml"}:
        target, content = folder / name, (CHECKOUT / name).read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target)
    for top in ("lion_sweep", "tests", "conf", "launch"):
        for path in (folder / top).rglob("*"):
            if path.is_file() and path.relative_to(folder).as_posix() not in names:
                path.unlink()


def _plant(folder: Path) -> None:
    """Have mutmut plant all faults, and find out which tests pass through which function."""
    said = _mutmut(folder, ["none"], None)
    if "nothing matches" not in said:  # what it says where it was to try none of them
        raise SystemExit(f"mutmut failed in {folder}:\n{said[-3000:]}")


def _drawn(folder: Path, sample: int) -> dict[str, int | None]:
    """So many of the faults, or all, and what became of them."""
    statuses = _statuses(folder)
    names = sorted(statuses, key=lambda name: sha256(name.encode()).digest())
    return {name: statuses[name] for name in (names[:sample] if sample else names)}


def _run(folder: Path, until: float, names: Sequence[str]) -> None:
    """Have mutmut try these. Raises `SystemExit` with its last words."""
    for start in range(0, len(names), AT_ONCE):
        if time.monotonic() > until:
            return
        if said := _mutmut(folder, names[start : start + AT_ONCE], until):
            raise SystemExit(f"mutmut failed in {folder}:\n{said[-3000:]}")


def _mutmut(folder: Path, names: Sequence[str], until: float | None) -> str:
    """Have it try these, stopped at that time; what it said, where it failed."""
    command = [sys.executable, "-m", "mutmut", "run", *names]
    with (folder / "mutmut.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | QUIET, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            process.wait(None if until is None else until - time.monotonic())
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it keeps what it has
            process.wait()
            return ""
    return (folder / "mutmut.log").read_text("utf-8", "replace") if process.returncode else ""


def _statuses(folder: Path) -> dict[str, int | None]:
    """Exit statuses of what was planted, by mutmut's names."""
    found: dict[str, int | None] = {}
    for path in sorted((folder / "mutants" / "lion_sweep").rglob("*.meta")):
        found |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def _changes(folder: Path, names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """(function, line as it is, line as it was made) of faults."""
    if not names:
        return {}
    told = subprocess.run(
        [sys.executable, "-c", DIFFS], cwd=folder, check=True, capture_output=True, text=True,
        input=json.dumps(names),
    )  # fmt: skip
    found = {}
    for name, diff in json.loads(told.stdout).items():
        lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
        was, made = (
            " ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
        )
        found[name] = _function(name), was, made
    return found


def _function(name: str) -> str:
    """`lion_sweep.losses.l0.L0Controller.check` of mutmut's name of a fault in it."""
    module, _, mangled = name.rpartition("__mutmut_")[0].rpartition(".")
    mangled = re.sub(r"^x(_|ǁ)", "", mangled).replace("ǁ", ".")
    return f"{module}.{mangled}"


def _left(
    folder: Path, explained: Explained, drawn: dict[str, int | None]
) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Survivors among the drawn that nobody has explained, by mutmut's names."""
    survived = [name for name, status in drawn.items() if status in SURVIVED]
    for name, change in _changes(folder, survived).items():
        if not (explained.harmless(*change) or explained.of(*change)):
            yield name, change


def _found(folder: Path, explained: Explained, drawn: dict[str, int | None]) -> Found:
    found = Found(tried=sum(status not in UNTRIED for status in drawn.values()))
    survived = [name for name, status in drawn.items() if status in SURVIVED]
    found.noticed = found.tried - len(survived)
    for change in _changes(folder, survived).values():
        if why := explained.harmless(*change):
            found.harmless[why] += 1
        elif why := explained.of(*change):
            found.explained.append(why)
        else:
            function, was, made = change
            found.left.append(f"{function}\n    - {was}\n    + {made}")
    return found


def _tell(found: dict[str, Found]) -> None:
    """A row for each room, and every survivor that is not explained."""
    for room in found.values():
        for one in room.left:
            print(one)
    heads = "planted", "tried", "no effect", "noticed", "explained", "left", "share"
    print(f"{'room':<12}" + "".join(f"{head:>11}" for head in heads))
    for name, room in found.items():
        numbers = (
            room.planted, room.tried, room.harmless.total(), room.noticed, len(room.explained),
            len(room.left),
        )  # fmt: skip
        print(f"{name:<12}" + "".join(f"{n:>11,}" for n in numbers) + f"{room.share:>11.1%}")


if __name__ == "__main__":
    raise SystemExit(main())
