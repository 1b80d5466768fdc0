"""Digests of files, so that what a file holds is known and not only what it is called.

A digest is remembered with the file's path, size, times of change and inode, so that 16 GB of
weights are read once. (The inode's own time is among them: what was written to a file shows there,
whatever its other time was set to.) A file that has only just changed is read again the next time:
it could change once more within the resolution of its time.
"""

import hashlib
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.files import key_of, read_json, sealed, write_json

DIGESTS = "digests"  # folder below that of all outputs
SETTLED_SECONDS = 2.0


def digest_of(path: Path) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a file's content, which is read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@dataclass(frozen=True)
class Digests:
    """What is known of files, kept in `folder`."""

    folder: Path

    def of_file(self, path: Path) -> str:
        """The same, read where it is not known."""
        path = path.resolve()
        stat = path.stat()
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
        note = self.folder / f"{key_of(str(path))}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = read_json(note)
            if known == self._note(path, state, known["digest"]):
                return known["digest"]
        found = digest_of(path)
        if time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED_SECONDS:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(note, self._note(path, state, found))
        return found

    def _note(self, path: Path, state: list[int], digest: str) -> dict[str, Any]:
        """What is remembered, sealed: a bit that flips would make another cell of every one."""
        return sealed({"path": str(path), "state": state, "digest": digest})

    def of_folder(self, folder: Path, patterns: Iterable[str]) -> str:
        """Of the files that match, by their places in the folder; empty where none does."""
        paths = sorted({path for pattern in patterns for path in folder.glob(pattern)})
        parts = [[path.relative_to(folder).as_posix(), self.of_file(path)] for path in paths]
        return key_of(parts) if parts else ""
