"""`python -m lion_sweep.verify`: whether all that is finished still is what it was.

Every file of every finished stage below ROOT is read and compared with the digest that was kept
when the stage was finished, and every cell's result, runs and values per query with those that the
result has. What is damaged is named; --remove deletes it, and the command that made it makes it
again. Leaves with 0 where nothing is damaged (any more), else with 1.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lion_sweep import command
from lion_sweep.errors import UserError
from lion_sweep.machine.progress import QUIET_SECONDS
from lion_sweep.machine.seal import Damaged, Files, what_is_wrong
from lion_sweep.result import RESULT, OfAnotherVersion, read_result
from lion_sweep.stages import engine

WHOLE, DAMAGED = 0, 1


@dataclass
class Counts:
    """What was looked at."""

    stages: int = 0
    cells: int = 0
    files: int = 0
    size: int = 0  # bytes
    older: int = 0  # stages and cells that kept no digests, or of another version


def main(words: list[str]) -> int:
    """The exit status. Raises `UserError` where there is nothing to look at."""
    parser = command.parser("verify", __doc__)
    parser.add_argument("--remove", action="store_true", help="delete what is damaged")
    asked = command.parse(parser, words)
    if not asked.root.is_dir():
        raise UserError(f"{asked.root} is not there: say --root FOLDER, of all outputs.")
    counts, damaged = Counts(), 0
    for wrong, paths in (*_stages(asked.root, counts), *_cells(asked.root, counts)):
        damaged += 1
        print(f"damaged: {wrong}", flush=True)
        if asked.remove and (kept := [path for path in paths if not _removed(path)]):
            raise UserError(f"{kept[0]} is in use: give the command again when that is over.")
    looked = f"{counts.stages:,} stages and {counts.cells:,} cells, {counts.files:,} files"
    done = "removed" if asked.remove else "damaged"
    print(f"{asked.root}: {looked}, {counts.size / 1e9:,.2f} GB; {damaged or 'none'} {done}")
    if counts.older:
        print(f"of {counts.older:,} more no digests were kept")
    return DAMAGED if damaged and not asked.remove else WHOLE


def _stages(root: Path, counts: Counts) -> Iterator[tuple[str, list[Path]]]:
    """(what is wrong, what has to go) of every finished stage that is damaged."""
    said = time.monotonic()
    for path in sorted((root / "stages").glob(f"*/{engine.DONE}")):
        folder = path.parent
        if folder.name.startswith(".") or folder.name.endswith(".partial"):
            continue
        if time.monotonic() - said > QUIET_SECONDS:
            said = time.monotonic()
            print(f"{counts.stages:,} stages, {counts.size / 1e9:,.1f} GB so far", flush=True)
        try:
            files = done.files if (done := engine.find(folder)) else None
        except Damaged as error:
            yield str(error), [folder]
            continue
        if files is None:
            counts.older += 1
            continue
        counts.stages += 1
        if wrong := _first(folder, files, counts):
            yield wrong, [folder]


def _cells(root: Path, counts: Counts) -> Iterator[tuple[str, list[Path]]]:
    """The same of finished cells: made again from their stages, they cost seconds."""
    for path in sorted(root.glob(f"cells/*/{RESULT}")):
        try:
            result = read_result(path)
        except OfAnotherVersion:
            counts.older += 1
            continue
        except UserError as error:
            yield str(error), [path]
            continue
        files = result["files"]
        if result["id"] != path.parent.name:
            yield f"{path} is of the cell {result['id']}", [path]
        elif wrong := _first(path.parent, files, counts):
            yield wrong, [path]
        counts.cells += bool(files)
        counts.older += not files


def _first(folder: Path, files: Files, counts: Counts) -> str:
    """The first thing that is wrong with its files."""
    wrong = [found for name, told in files.items() if (found := what_is_wrong(folder, name, told))]
    counts.files += len(files)
    counts.size += sum(size for size, _ in files.values())
    return wrong[0] if wrong else ""


def _removed(path: Path) -> bool:
    """Whether it is gone now."""
    if path.name == RESULT:
        path.unlink(missing_ok=True)
        return True
    return engine.remove(path)


if __name__ == "__main__":
    command.run(main)
