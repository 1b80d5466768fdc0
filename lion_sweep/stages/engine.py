"""The engine of stages: named pieces of work, each done once for each distinct specification.

A stage lives in `<root>/stages/<name>-<key>`, where the key hashes its specification. Work goes
into `<name>-<key>.<claim>.partial` and is renamed when it is done, so a folder without the suffix
is complete. A killed stage leaves its partial folder, from which work that checkpoints can go on:
whoever goes on gives it a name of their own, so that a process which has been given up for dead,
and is not, finds its folder gone and can neither write into it nor finish it.
"""

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lion_sweep.errors import FULL_DISK, Busy, Interrupted, Superseded, UserError, of_disk
from lion_sweep.files import intact, key_of, read_json, remove_leftovers, sealed, write_json
from lion_sweep.machine.seal import Damaged, Files, files_of

DONE = "done.json"
GRACE_SECONDS = 1.0
NO_LOCKS = errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL


@dataclass(frozen=True)
class Done:
    """A finished stage: where it is, what it reported, what it took, what it holds."""

    folder: Path
    facts: dict[str, Any]
    seconds: float
    reused: bool
    files: Files | None  # None where a version made it that kept no digests


class Team:
    """The processes that do a stage together, one of which leads. Here: this one alone."""

    leads = True

    def tell(self, value: Any) -> Any:
        """What the leader says, to everyone; blocks until all ask for it."""
        return value


@contextmanager
def locked(path: Path, owner: str = "", wait: bool = True) -> Iterator[None]:
    """Hold a file lock that names its owner; the system drops it when the process dies.

    Raises `Busy` where another process holds it and this one is not to `wait`.
    """
    while True:
        with _opened(path) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise Busy(f"{path.name} is held by another process.") from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                raise UserError(
                    f"{path.parent} is on a file system without locks ({error.strerror}), by which "
                    "processes keep out of each other's way: set paths.root to a folder on another "
                    "one (NFS 4, or Lustre mounted with -o flock)."
                ) from None
            if not _same_file(handle.fileno(), path):
                continue  # somebody took the lock away from whom we waited for
            handle.truncate(0)
            handle.write(owner)
            handle.flush()
            yield
            return


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a+", encoding="utf-8")
    except PermissionError:
        with suppress(OSError, KeyError):
            raise UserError(
                f"{path.parent} is {path.parent.owner()}'s, and you may not write there: set "
                "paths.root to a folder of your own."
            ) from None
        raise


def _same_file(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def fence_off(root: Path, owner: str) -> None:
    """Take every lock away from an earlier process of `owner` that has been given up for dead.

    Whatever it still does is lost on it: the stage's folder gets another name.
    """
    locks = sorted((root / "stages").glob(".*.lock"))
    suspects = [path for path in locks if _held_by(path, owner)]
    if suspects:
        time.sleep(GRACE_SECONDS)  # a new holder writes its name just after it gets the lock
    for path in suspects:
        if _held_by(path, owner):
            path.unlink(missing_ok=True)


def _held_by(path: Path, owner: str) -> bool:
    try:
        with suppress(FileNotFoundError), path.open(encoding="utf-8") as handle:
            if handle.read() == owner:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def folder_of(root: Path, kind: str, specification: dict[str, Any]) -> Path:
    """Where a stage is when it is done."""
    return root / "stages" / f"{kind}-{key_of(specification)}"


def find(folder: Path) -> Done | None:
    """The finished stage, or None. Raises `Damaged` where the folder cannot be taken for it."""
    if not (folder / DONE).is_file():
        return None
    try:
        done = read_json(folder / DONE)
        same = key_of(done["specification"]) == folder.name.rpartition("-")[2]
        found = Done(folder, done["facts"], done["seconds"], True, done.get("files"))
        if not intact(done):
            raise ValueError("it does not say any more what it said")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(
            f"{folder / DONE} cannot be read ({error!r}): delete {folder}, and the same command "
            "makes it again."
        ) from None
    if not same:
        raise Damaged(
            f"{folder} was made from something else than its name says, so it is not used: delete "
            "it, and the same command makes it again."
        )
    return found


def run(
    folder: Path,
    specification: dict[str, Any],
    work: Callable[[Path], dict[str, Any]],
    team: Team | None = None,
    *,
    owner: str = "",
    together: bool = False,
    wait: bool = True,
) -> Done:
    """Do `work(partial folder)` unless the stage is finished already.

    `work` returns facts to remember, as JSON. The leader of the `team` does it, the others too
    where it is done `together`; `owner` is whose lock can be fenced off. `seconds` are those of the
    attempt that finished. Raises `Superseded`, whatever `work` raises, for a full disk an `OSError`
    that says so, and `Busy` where another process is at it and this one is not to `wait`.
    """
    team, kind = team or Team(), folder.name.rpartition("-")[0]
    with ExitStack() as held:
        begun = team.tell(_begin(folder, held, owner, wait) if team.leads else None)
        if isinstance(begun, Busy):
            raise begun
        if isinstance(begun, Done):
            return begun
        if not team.leads:
            if together:
                work(begun)
            return team.tell(None)
        start, inode = time.monotonic(), _inode(begun)
        try:
            facts = work(begun)
            seconds = round(time.monotonic() - start, 3)
            done = {"specification": specification, "facts": facts, "seconds": seconds}
            files = files_of(begun)
            write_json(begun / DONE, sealed(done | {"files": files}))
            if _inode(begun) != inode:  # a library has made the folder again
                shutil.rmtree(begun)
            if other := _named(begun, folder):
                return team.tell(other)
        except (Interrupted, Superseded):
            raise
        except Exception as error:
            if _inode(begun) != inode:
                raise Superseded(f"{kind} goes on in another process.") from error
            if not (failed := of_disk(error)):
                raise
            if failed.errno not in FULL_DISK:
                raise failed from None
            raise OSError(
                failed.errno,
                f"{failed.strerror}, as {kind} wrote below {folder.parent.parent}: free some space "
                "and give the same command again, which goes on from here",
            ) from error
        return team.tell(Done(folder, facts, seconds, reused=False, files=files))


def _begin(folder: Path, held: ExitStack, owner: str, wait: bool) -> Done | Path | Busy:
    """The finished stage, or a partial folder that is locked as long as `held` lasts."""
    if finished := find(folder):
        return finished
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        held.enter_context(locked(_lock(folder), owner, wait))
    except Busy as error:
        return error
    return find(folder) or _claim(folder)  # another may have just done it


def _inode(folder: Path) -> int | None:
    """What a folder keeps under another name."""
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def _named(begun: Path, folder: Path) -> Done | None:
    """Give what is done its name, unless another process has; then what that has done.

    Both can be where a shared file system shows late what others did. A folder of that name which
    is not finished is nobody's: something in it was deleted by hand.
    """
    try:
        begun.replace(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if other := find(folder):
            shutil.rmtree(begun)
            return other
        shutil.rmtree(folder)
        begun.replace(folder)
    return None


def remove(folder: Path, *, finished: bool = True) -> bool:
    """Delete a stage and what killed processes have left of it, or (not `finished`) that alone.

    Returns whether it is gone: where somebody is at it, all stays.
    """
    lock = _lock(folder)
    if not any(path.exists() for path in (lock, folder, *partials(folder))):
        return True
    with suppress(Busy), locked(lock, wait=False):
        half = folder.with_name(f".{folder.name}.removed")  # nobody reads it, or goes on from it
        shutil.rmtree(half, ignore_errors=True)
        if finished and folder.exists():
            folder.replace(half)
        for left in [half, *partials(folder)]:
            shutil.rmtree(left, ignore_errors=True)
        lock.unlink()
        return True
    return False


def partials(folder: Path) -> list[Path]:
    """What processes at a stage work in, or have left behind."""
    return sorted(folder.parent.glob(f"{folder.name}.*partial"))


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _claim(folder: Path) -> Path:
    """The partial folder under a name that no other process knows, with what is in it already."""
    mine = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    for left in partials(folder):
        if mine.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.replace(mine)
    mine.mkdir(exist_ok=True)
    (mine / DONE).unlink(missing_ok=True)  # of who was killed before the folder had its name
    remove_leftovers(mine)
    return mine
