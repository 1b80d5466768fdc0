"""Files that appear whole or not at all, keys of what they hold, and records that are sealed."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SEAL = "seal"
LEFT_BEHIND = re.compile(r"\..+\.\d+")  # a number is that of a process


@contextmanager
def written(path: Path, *, only_writer: bool = False) -> Iterator[Path]:
    """A file to write, which takes the place of `path` at the end: readers see the old or the new.

    Where the writing fails, `path` stays as it was. What a killed process leaves behind is taken
    over by the next one, where no other can write at the same time (`only_writer`).
    """
    temporary = path.with_name(f".{path.name}.{'tmp' if only_writer else os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes have left of files that were being `written` there."""
    for path in folder.rglob(".*"):
        if LEFT_BEHIND.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_note(path: Path) -> dict[str, Any]:
    """The object in a file that only tells how things are; empty where nobody can read it (yet)."""
    try:
        found = read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def key_of(specification: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(specification, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record, as JSON has it, with a digest of what it says."""
    told = json.loads(json.dumps(record))
    return {**told, SEAL: key_of(told)}


def intact(record: Mapping[str, Any]) -> bool:
    """Whether a record says what it said when it was sealed; one that has no seal is older."""
    own = {key: value for key, value in record.items() if key != SEAL}
    return SEAL not in record or record[SEAL] == key_of(own)
