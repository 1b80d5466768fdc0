"""The attempts at a task: each leaves a record of who, where, how it began and how it ended.

They are numbered by creating their files, which only one process can do.
"""

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.errors import (
    FULL_DISK,
    Interrupted,
    NoProgress,
    NotFinite,
    OutOfMemory,
    Superseded,
    UserError,
)
from lion_sweep.stages.engine import write_json

WHEREABOUTS = "progress.json"


def failure_class(error: BaseException) -> str:
    """What kind of failure an exception is, in the words of the status table."""
    import torch  # here, as who only reads records need not wait for it

    if isinstance(error, NotFinite):
        return "NaN"
    if isinstance(error, NoProgress):
        return "no progress"
    if isinstance(error, MemoryError | OutOfMemory | torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, UserError):
        return "configuration"
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return "disk full"
    if isinstance(error, KeyboardInterrupt):
        return "cancelled"
    return "code"


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Records of all attempts at the task in `folder`, the first one first."""
    return [
        json.loads(path.read_text(encoding="utf-8") or "{}")
        for path in sorted((folder / "attempts").glob("*.json"))
    ]


def _mark(folder: Path) -> list[str]:
    path = folder / WHEREABOUTS
    return json.loads(path.read_text(encoding="utf-8"))["mark"] if path.is_file() else []


@dataclass
class Attempt:
    """This process' attempt; its record tells who, where, how it began and how it ended."""

    folder: Path
    record: dict[str, Any]

    @classmethod
    def begin(cls, folder: Path, job: str, limit: int) -> "Attempt":
        """Take the next number.

        `job` is the scheduler's name for the job, empty where somebody gave the command. Raises
        `NoProgress` after `limit` attempts of one job that kept nothing new.
        """
        (folder / "attempts").mkdir(parents=True, exist_ok=True)
        before = read_attempts(folder)
        mark = _mark(folder)
        number = len(before) + 1
        while True:
            path = folder / "attempts" / f"{number:04d}.json"
            try:
                path.touch(exist_ok=False)
                break
            except FileExistsError:
                number += 1
        record = {
            "number": number,
            "job": job,
            "node": os.environ.get("SLURMD_NODENAME", socket.gethostname()),
            "pid": os.getpid(),
            "started": time.time(),
            "mark": mark,
            "ended": None,
            "outcome": "running",
            "failure": None,
        }
        attempt = cls(folder, record)
        attempt._write()
        idle = 0
        for earlier in reversed(before):
            if (earlier.get("mark"), earlier.get("job")) != (mark, job):
                break
            idle += 1
        if job and idle >= limit:
            error = NoProgress(
                f"{idle} attempts in a row ended without anything new kept: look at the log, then "
                "lower recipe.checkpoint_every, or raise site.time_limit or site.attempts."
            )
            attempt.end(error)
            raise error
        return attempt

    @property
    def path(self) -> Path:
        """Its record's file."""
        return self.folder / "attempts" / f"{self.record['number']:04d}.json"

    def _write(self) -> None:
        write_json(self.path, self.record)

    def end(self, error: BaseException | None) -> None:
        """How it ended: finished, interrupted, superseded or failed."""
        self.record["ended"] = time.time()
        if error is None:
            self.record["outcome"] = "finished"
        elif isinstance(error, Interrupted | Superseded):
            self.record["outcome"] = type(error).__name__.lower()
        else:
            plainly = isinstance(error, UserError | OSError)
            message = str(error) if plainly else f"{type(error).__name__}: {error}"
            self.record["outcome"] = "failed"
            self.record["failure"] = {"class": failure_class(error), "message": message}
        self._write()
