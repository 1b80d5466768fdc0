"""Stages: named pieces of work, each done once for each distinct specification.

A stage lives in `<root>/stages/<name>-<key>`, where the key hashes its specification. Work goes
into `<...>.partial` and is renamed when it is done, so a folder without the suffix is complete.
A killed stage leaves its partial folder, from which work that checkpoints can go on.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DONE = "done.json"


@dataclass(frozen=True)
class Stage:
    """A finished stage: where it is, what it reported, what it took."""

    folder: Path
    key: str
    facts: dict[str, Any]
    seconds: float
    reused: bool


def key_of(specification: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(specification, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock; the system drops it when its owner dies."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def find(root: Path, name: str, specification: dict[str, Any]) -> Stage | None:
    """The finished stage, or None."""
    folder = root / "stages" / f"{name}-{key_of(specification)}"
    if not (folder / DONE).is_file():
        return None
    done = json.loads((folder / DONE).read_text(encoding="utf-8"))
    return Stage(folder, key_of(specification), done["facts"], done["seconds"], reused=True)


def run(
    root: Path,
    name: str,
    specification: dict[str, Any],
    work: Callable[[Path], dict[str, Any]],
) -> Stage:
    """Do `work(partial folder)` unless a stage of this specification is finished already.

    `work` returns facts to remember, as JSON. `seconds` sums over interrupted attempts only as far
    as the last one: it is the wall-clock time of the attempt that finished.
    """
    key = key_of(specification)
    folder = root / "stages" / f"{name}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    finished = find(root, name, specification)
    if finished:
        return finished
    with locked(folder.with_name(f".{folder.name}.lock")):
        finished = find(root, name, specification)  # another process may have done it meanwhile
        if finished:
            return finished
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(exist_ok=True)
        start = time.monotonic()
        facts = work(partial)
        seconds = round(time.monotonic() - start, 3)
        done = {"specification": specification, "facts": facts, "seconds": seconds}
        write_json(partial / DONE, done)
        partial.replace(folder)
        return Stage(folder, key, facts, seconds, reused=False)
