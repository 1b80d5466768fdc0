"""`python -m lion_sweep.diff A B`: what differs between two cells.

A and B are folders of cells, or ids below ROOT/cells (--root, or paths.root=ROOT; outputs as a
rule). Configurations, stages, environments and results are compared; what is equal is left out. The
exit status is 0 where the numbers are equal, 1 where they differ, 2 where a cell cannot be read.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lion_sweep.cell.result import RESULT, Result, read_result
from lion_sweep.config.composing import CONFIG
from lion_sweep.errors import IMPOSSIBLE, UserError
from lion_sweep.files import read_json
from lion_sweep.stages.engine import DONE

EQUAL, DIFFERENT = 0, 1
MISSING = "(none)"
# What a result tells of itself, of its numbers, and of where they come from.
NUMBERS = ("scores", "untrained", "gain", "bm25")
ENVIRONMENT = ("site", "precision", "device", "versions", "environment")
TIMES = ("train_seconds",)

Differences = list[tuple[str, Any, Any]]


def main(words: list[str]) -> int:
    """The exit status."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m lion_sweep.diff", description=__doc__, formatter_class=form
    )
    parser.add_argument("cells", nargs=2, metavar="CELL", help="a cell's folder, or its id")
    parser.add_argument("--root", type=Path, default=Path("outputs"), help="paths.root of the ids")
    asked = parser.parse_args([word.replace("paths.root=", "--root=", 1) for word in words])
    try:
        one, other = (Finished.read(_folder(name, asked.root)) for name in asked.cells)
    except UserError as error:
        print(f"lion_sweep: {error}", file=sys.stderr)
        return IMPOSSIBLE
    found = compare(one, other)
    print(as_text(one, other, found))
    return DIFFERENT if found["numbers"] else EQUAL


def _folder(name: str, root: Path) -> Path:
    return Path(name) if Path(name).is_dir() else root / "cells" / name


class Finished:
    """A cell's configuration, result and the specifications of the stages that are still there."""

    def __init__(self, folder: Path, config: dict[str, Any], result: Result) -> None:
        self.folder, self.config, self.result = folder, config, result
        self.stages = folder.parent.parent / "stages"

    @classmethod
    def read(cls, folder: Path) -> "Finished":
        """Raises `UserError` where there is no finished cell of this version."""
        if not (folder / RESULT).is_file():
            raise UserError(f"{folder} is not the folder of a cell with a result.")
        result = read_result(folder / RESULT)
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        return cls(folder, {k: v for k, v in config.items() if k not in ("id", "axes")}, result)

    def specification(self, title: str) -> dict[str, Any] | None:
        """What a stage was made from; None where its folder is gone."""
        path = self.stages / self.result["stages"][title]["folder"] / DONE
        found: dict[str, Any] | None = read_json(path)["specification"] if path.is_file() else None
        return found


def compare(one: Finished, other: Finished) -> dict[str, Differences]:
    """(key, value in one, value in the other) of all that differs, by what it is of."""
    results: tuple[Any, Any] = (one.result, other.result)

    def told(keys: tuple[str, ...]) -> Differences:
        ours, theirs = ({key: result[key] for key in keys} for result in results)
        found = differences(ours, theirs)
        return [entry for entry in found if entry[0].rpartition(".")[2] not in TIMES]

    return {
        "configuration": differences(one.config, other.config),
        "inputs": _inputs(one, other),
        "environment": told(ENVIRONMENT),
        "numbers": told(NUMBERS),
    }


def _inputs(one: Finished, other: Finished) -> Differences:
    """The first stages that differ, and in what: those that read them differ as well."""
    found: Differences = []
    changed = set()
    found += differences(one.result["collections"], other.result["collections"], "collections")
    for title in one.result["stages"]:
        theirs = other.result["stages"].get(title)
        ours = one.result["stages"][title]
        if theirs is None or ours["folder"] == theirs["folder"]:
            continue
        changed |= {ours["folder"], theirs["folder"]}
        specified = one.specification(title), other.specification(title)
        if None in specified:
            found.append((title, ours["folder"], theirs["folder"]))
            continue
        own = differences(*specified, key=title)
        found += [entry for entry in own if not changed & {str(entry[1]), str(entry[2])}]
    return found


def differences(one: Any, other: Any, key: str = "") -> Differences:
    """Leaves that are not equal, by the keys that lead to them."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = [*one, *(name for name in other if name not in one)]
        return [
            entry
            for name in names
            for entry in differences(
                one.get(name, MISSING),
                other.get(name, MISSING),
                f"{key}.{name}" if key else str(name),
            )
        ]
    return [] if one == other else [(key, one, other)]


def as_text(one: Finished, other: Finished, found: dict[str, Differences]) -> str:
    """A section for each kind of difference."""
    return "\n".join(_lines(one, other, found))


def _lines(one: Finished, other: Finished, found: dict[str, Differences]) -> Iterator[str]:
    yield f"A  {one.folder}"
    yield f"B  {other.folder}"
    for what, entries in found.items():
        yield ""
        yield f"{what}: {'equal' if not entries else ''}".rstrip()
        width = max((len(key) for key, _, _ in entries), default=0)
        for key, a, b in entries:
            yield f"  {key:<{width}}  {_shown(a)} -> {_shown(b)}{_gap(a, b)}"


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _gap(a: Any, b: Any) -> str:
    """How far two numbers are apart."""
    numbers = all(isinstance(value, int | float) for value in (a, b))
    return f"  ({b - a:+.2g})" if numbers and not isinstance(a, bool) else ""


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
