"""What a finished stage holds, file by file, and whether it still does.

A stage that ends writes the size and the digest of each of its files into done.json, and a digest
of what stands there, its seal. Whoever reads the stage later compares. To read every byte each time
would take as long as the reading itself, so a file whose size, times and inode are as they were
when its content was last seen to be right is taken at its word (`Verify.once`).
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.config.site import Verify
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, write_json
from lion_sweep.machine.digests import digest_of

REMEDY = "python -m lion_sweep.verify --remove"
Files = dict[str, list[Any]]  # by their places in a folder: [bytes, digest]


class Damaged(UserError):
    """Something that was finished is not any more what it was; nothing reads it."""


def files_of(folder: Path, patterns: Iterable[str] = ("**/*",)) -> Files:
    """Size and digest of the files in a folder that match."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): [path.stat().st_size, digest_of(path)]
        for path in sorted(found)
    }


def what_is_wrong(folder: Path, name: str, told: list[Any], *, read: bool = True) -> str:
    """How a file differs from what was told of it, in words; empty where it does not."""
    (size, digest), path = told, folder / name
    try:
        found = path.stat().st_size
        if found != size:
            return f"{path} has {found:,} bytes, and had {size:,} when it was finished"
        if read and digest_of(path) != digest:
            return f"{path} holds something else than when it was finished"
    except FileNotFoundError:
        return f"{path} is gone"
    return ""


def mark(path: Path) -> None:
    """Say beside a file or a folder that it is whole, for who goes on after a killed process."""
    write_json(_mark(path), _content(path))


def marked(path: Path) -> bool:
    """Whether it is there, and as it was when it was marked."""
    try:
        return bool(read_json(_mark(path)) == _content(path))
    except (OSError, ValueError):
        return False


def unmark(path: Path) -> None:
    """Nobody has to go on any more."""
    _mark(path).unlink(missing_ok=True)


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.name}.whole")


def _content(path: Path) -> Any:
    return files_of(path) if path.is_dir() else digest_of(path)


@dataclass(frozen=True)
class Seals:
    """What is known of the files of finished stages, kept in `notes`."""

    notes: Path
    verify: Verify = Verify.once

    def remember(self, folder: Path, files: Files) -> None:
        """Their content is right now."""
        self.notes.mkdir(parents=True, exist_ok=True)
        write_json(self._note(folder), {name: _state(folder / name) for name in files})

    def check(self, folder: Path, files: Files | None) -> None:
        """Raises `Damaged`, naming the file, where a stage does not hold any more what it did."""
        if self.verify is Verify.never or not files:
            return
        known, unsure = self._known(folder), False
        for name, told in files.items():
            path = folder / name
            read = not path.exists() or known.get(name) != _state(path)
            if wrong := what_is_wrong(folder, name, told, read=read):
                raise Damaged(
                    f"{wrong}, so it is not used: {REMEDY} deletes what is damaged, and the same "
                    "command then makes it again."
                )
            unsure |= read
        if unsure:
            with suppress(OSError):  # of a folder that is only read: it is looked at once more
                self.remember(folder, files)

    def _known(self, folder: Path) -> dict[str, Any]:
        """How its files were when they were right; nothing where that does not count."""
        with suppress(OSError, ValueError):
            if self.verify is Verify.once and isinstance(
                found := read_json(self._note(folder)), dict
            ):
                return found
        return {}

    def _note(self, folder: Path) -> Path:
        return self.notes / f"{folder.name}.json"


def _state(path: Path) -> list[int]:
    """What changes with a file's content; not its device, which every node numbers as it likes."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
