"""What /proc tells of processes, and how they are ended."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
LISTENING = "0A"


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again; whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def everyone() -> list[int]:
    """The ids of all processes."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def running(pid: int) -> bool:
    """Whether a process lives; one that only waits for its parent to read its end does not."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    state = re.search(r"^State:\s+(\w)", _read(pid, "status"), re.MULTILINE)
    return state is not None and state[1] not in "ZX"


def command_line(pid: int) -> list[str]:
    """The words a process was started with; none if it is gone."""
    return _read(pid, "cmdline").split("\0")


def environment(pid: int) -> list[str]:
    """`NAME=value` of the environment a process was started with."""
    return _read(pid, "environ").split("\0")


def working_folder(pid: int) -> Path | None:
    """Where a process works; None if it is gone."""
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None


def descendants(ancestors: Iterable[int]) -> set[int]:
    """Children of processes, and theirs, as far as parents still live to tell."""
    parents = {}
    for pid in everyone():
        parent = re.search(r"^PPid:\s+(\d+)", _read(pid, "status"), re.MULTILINE)
        parents[pid] = int(parent[1]) if parent else 0
    found: set[int] = set()
    generation = set(ancestors)
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation} - found
        found |= generation
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those that still live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def end(pids: Iterable[int], patience: float) -> None:
    """Ask processes to end, and kill those that have not after `patience` seconds."""
    living = [pid for pid in pids if running(pid)]
    send(living, signal.SIGTERM)
    if not wait_until(lambda: not any(map(running, living)), patience):
        kill(living)


def kill(pids: Iterable[int]) -> None:
    """Kill processes, and see them gone."""
    living = [pid for pid in pids if running(pid)]
    send(living, signal.SIGKILL)
    wait_until(lambda: not any(map(running, living)), 5)


def listened_ports() -> set[int]:
    """The TCP ports of this machine on which somebody listens, without knocking at any."""
    ports = set()
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError):
            for line in (PROC / table).read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == LISTENING:
                    ports.add(int(local.rpartition(":")[2], 16))
    return ports


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="replace")
    except OSError:
        return ""
