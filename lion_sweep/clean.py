"""`python -m lion_sweep.clean --dry-run`: what nothing that is finished, or begun, is made of.

Kept below ROOT is every stage that a finished cell or evaluation was made of, or that a cell which
was asked for and has no result needs; what another process is at; and what was made in the last
--hours. Everything else that stages left is named with its size, and deleted unless --dry-run says
not to: folders of stages, of parts that killed processes have left, and notes on files that are
gone. Cells, their results, logs, exports and what trackers keep are never touched.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lion_sweep import command
from lion_sweep.cell.tasks import TASK
from lion_sweep.errors import UserError
from lion_sweep.files import read_json
from lion_sweep.machine.digests import DIGESTS
from lion_sweep.plan.cells import CALIBRATION
from lion_sweep.result import RESULT
from lion_sweep.stages import engine

HOURS = 24.0
FINISHED, BEGUN = "finished", "begun"
REMEDY = "finish it (give its command again), or delete its folder, and then clean"


@dataclass(frozen=True)
class Left:
    """What nothing is made of."""

    folder: Path  # of the stage when it is done
    finished: bool  # whether it is, or only parts are there
    size: int  # bytes

    @property
    def name(self) -> str:
        return self.folder.name if self.finished else f"{self.folder.name}, parts of"


def main(words: list[str]) -> int:
    """The exit status."""
    parser = command.parser("clean", __doc__)
    parser.add_argument("--dry-run", action="store_true", help="say what would go, delete nothing")
    said = "what is younger stays: a command may be about to use it (%(default)g)"
    parser.add_argument("--hours", type=float, default=HOURS, help=said)
    asked = command.parse(parser, words)
    if not (asked.root / "stages").is_dir():
        raise UserError(f"{asked.root} has no stages: say --root FOLDER, of all outputs.")
    uses = used(asked.root)
    found = sorted(left(asked.root, uses, asked.hours), key=lambda one: (-one.size, one.name))
    for what, names in uses.items():
        sizes = [_size(asked.root / "stages" / name) for name in names]
        print(f"{len(names):6,} stages {sum(sizes) / 1e9:9.3f} GB  of what is {what}")
    gone, busy, done = 0, 0, "would go" if asked.dry_run else "deleted"
    for one in found:
        if not asked.dry_run and not engine.remove(one.folder, finished=one.finished):
            busy += 1
            continue
        gone += one.size
        print(f"{done:>13} {one.size / 1e9:9.3f} GB  {one.name}")
    if not asked.dry_run:
        _forget(asked.root)
    verb = "would be freed" if asked.dry_run else "freed"
    print(f"{len(found) - busy:,} stages, {gone / 1e9:,.3f} GB {verb}")
    if busy:
        print(
            f"{busy:,} are in use: given again, the command deletes those that still nobody needs"
        )
    return 0


def used(root: Path) -> dict[str, set[str]]:
    """Names of stages by what needs them, finished or begun.

    Raises `UserError` where that cannot be told of something, as then nothing may be deleted.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for path in (*root.glob(f"cells/*/{RESULT}"), *root.glob(f"evaluated/*/{RESULT}")):
        found[FINISHED].update(_folders(path))
    tasks = [*root.glob(f"cells/*/{TASK}"), *root.glob(f"shared/*/{TASK}")]
    begun = [path for path in tasks if not path.with_name(RESULT).is_file()]
    for path in begun:
        if path.parent.parent.name == "shared":
            # Encoding jobs, for one, leave what a cell's own stages do not name.
            found[BEGUN].add(path.parent.name)
        else:
            found[BEGUN].update(_needed(path))
    if not any(path.parent.parent.name == "cells" for path in begun):
        found.pop(BEGUN, None)
    return {what: found[what] for what in (FINISHED, BEGUN) if what in found}


def _folders(path: Path) -> Iterator[str]:
    """Of a result of any version."""
    with _told_of(path):
        for stage in read_json(path)["stages"].values():
            yield str(stage["folder"])


def _needed(path: Path) -> Iterator[str]:
    """By a cell without a result."""
    with _told_of(path):
        yield from map(str, read_json(path)["stages"])


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Where something cannot be read, nothing may be deleted."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path.parent} does not say what it is made of ({error!r}), so nothing is deleted: "
            f"{REMEDY}."
        ) from None


def left(root: Path, uses: dict[str, set[str]], hours: float) -> Iterator[Left]:
    """What no use needs, and has not changed for so many hours."""
    needed, begun = set().union(*uses.values()), uses.get(BEGUN, set())
    before = time.time() - 3600 * hours
    parts: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((root / "stages").iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        if path.name.endswith(".partial"):
            parts[path.name.partition(".")[0]].append(path)
        elif path.name not in needed and not _is_calibration(path) and _changed(path) < before:
            yield Left(path, True, _size(path))
    for name, paths in parts.items():
        if name not in begun and max(map(_changed, paths)) < before:
            yield Left(root / "stages" / name, False, sum(map(_size, paths)))


def _is_calibration(path: Path) -> bool:
    """Measured steps, which plans read and no cell."""
    return path.name.startswith(f"{CALIBRATION}-")


def _changed(folder: Path) -> float:
    """When something in it last did, Unix s."""
    times = [folder.stat().st_ctime]
    with suppress(FileNotFoundError):
        times += [path.stat().st_mtime for path in folder.rglob("*")]
    return max(times)


def _size(folder: Path) -> int:
    with suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0


def _forget(root: Path) -> None:
    """Delete notes on files of stages that are gone."""
    there = {path.name for path in (root / "stages").iterdir()}
    for note in (root / DIGESTS).glob("*-*.json"):
        if note.stem not in there:
            note.unlink(missing_ok=True)


if __name__ == "__main__":
    command.run(main)
