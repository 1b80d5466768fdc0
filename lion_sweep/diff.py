"""`python -m lion_sweep.diff A B`: what differs between two cells.

A and B are folders of cells, or ids below ROOT/cells (--root, or paths.root=ROOT; outputs as a
rule). Configurations, stages, environments and results are compared; what is equal is left out. The
exit status is 0 where the numbers are equal, 1 where they differ, 2 where a cell cannot be read.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lion_sweep import command
from lion_sweep.config.composing import CONFIG
from lion_sweep.files import read_json
from lion_sweep.result import Result
from lion_sweep.stages.engine import DONE
from lion_sweep.stages.finished_cell import Finished

EQUAL, DIFFERENT = 0, 1
MISSING = "(none)"
# What a result tells of itself, of its numbers, and of where they come from.
NUMBERS = (
    "scores", "untrained", "gain", "bm25", "entropy", "untrained_entropy", "efficiency", "topk",
    "groups", "teacher_audit",
)  # fmt: skip
ENVIRONMENT = ("site", "precision", "device", "versions", "environment")
TIMES = "train_seconds", "search_seconds", "encode_seconds"

Differences = list[tuple[str, Any, Any]]


def main(words: list[str]) -> int:
    """The exit status."""
    parser = command.parser("diff", __doc__)
    said = "a cell's folder, or its id"
    parser.add_argument("cells", nargs=2, type=Path, metavar="CELL", help=said)
    asked = command.parse(parser, words)
    one, other = (Finished.read(cell, asked.root) for cell in asked.cells)
    found = compare(one, other)
    print("\n".join(_lines(one, other, found)))
    return DIFFERENT if found["numbers"] else EQUAL


def compare(one: Finished, other: Finished) -> dict[str, Differences]:
    """(key, value in one, value in the other) of all that differs, by what it is of."""
    return {
        "configuration": differences(_config(one), _config(other)),
        "inputs": _inputs(one, other),
        "environment": of_surroundings(one.result, other.result),
        "numbers": of_numbers(one.result, other.result),
    }


def of_surroundings(one: Result, other: Result) -> Differences:
    """What two results tell of code, versions and machine that is not equal."""
    return _of(ENVIRONMENT, one, other)


def of_numbers(one: Result, other: Result) -> Differences:
    """What they found that is not equal."""
    return _of(NUMBERS, one, other)


def _of(keys: Sequence[str], one: Result, other: Result) -> Differences:
    ours, theirs = ({key: told.get(key, MISSING) for key in keys} for told in (one, other))
    found = differences(ours, theirs)
    return [entry for entry in found if entry[0].rpartition(".")[2] not in TIMES]


def _config(cell: Finished) -> dict[str, Any]:
    written = yaml.safe_load((cell.folder / CONFIG).read_text(encoding="utf-8"))
    written["recipe"].pop("by", None)  # how its values were chosen, which are here
    return {key: value for key, value in written.items() if key not in ("id", "axes")}


def _inputs(one: Finished, other: Finished) -> Differences:
    """The first stages that differ, and in what: those that read them differ as well."""
    found = differences(one.result["collections"], other.result["collections"], "collections")
    changed: set[str] = set()
    for title, made in one.result["stages"].items():
        folders = made["folder"], other.result["stages"].get(title, made)["folder"]
        if folders[0] == folders[1]:
            continue
        changed.update(folders)
        done = [cell.stage(title) / DONE for cell in (one, other)]
        if all(path.is_file() for path in done):
            ours, theirs = (read_json(path)["specification"] for path in done)
            own = differences(ours, theirs, title)
            found += [entry for entry in own if not changed & {str(entry[1]), str(entry[2])}]
        else:  # a stage's folder is gone
            found.append((title, *folders))
    return found


def differences(one: Any, other: Any, key: str = "") -> Differences:
    """Leaves that are not equal, by the keys that lead to them."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return [] if one == other else [(key, one, other)]
    found: Differences = []
    for name in [*one, *(name for name in other if name not in one)]:
        inner = f"{key}.{name}" if key else str(name)
        found += differences(one.get(name, MISSING), other.get(name, MISSING), inner)
    return found


def _lines(one: Finished, other: Finished, found: dict[str, Differences]) -> Iterator[str]:
    """A section for each kind of difference."""
    yield f"A  {one.folder}"
    yield f"B  {other.folder}"
    yield from sections(found)


def sections(found: Mapping[str, Differences]) -> Iterator[str]:
    """Lines of what differs, by what it is of."""
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
    command.run(main)
