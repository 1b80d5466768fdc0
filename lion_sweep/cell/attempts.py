"""The attempts at a task: each leaves a record of who, where, how it began and how it ended.

They are numbered by creating their files, which only one process can do.
"""

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from lion_sweep import errors
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, write_json

WHEREABOUTS = "progress.json"


def failure_class(error: BaseException) -> str:
    """What kind of failure an exception is, in the words of the status table."""
    import torch  # here, as who only reads records need not wait for it

    for kinds, words in (
        (errors.NotFinite, "NaN"),
        (errors.NoProgress, "no progress"),
        (MemoryError | errors.OutOfMemory | torch.OutOfMemoryError, "out of memory"),
        (UserError, "configuration"),
        (KeyboardInterrupt, "cancelled"),
    ):
        if isinstance(error, kinds):
            return words
    full = isinstance(error, OSError) and error.errno in errors.FULL_DISK
    return "disk full" if full else "code"


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Records of all attempts at the task in `folder`, the first one first."""
    paths = sorted((folder / "attempts").glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8") or "{}") for path in paths]


@dataclass
class Attempt:
    path: Path  # of the record
    record: dict[str, Any]

    @classmethod
    def begin(cls, folder: Path, job: str, limit: int) -> "Attempt":
        """Take the next number.

        `job` is the scheduler's name for the job, empty where somebody gave the command. Raises
        `NoProgress` after `limit` attempts of one job that kept nothing new.
        """
        (folder / "attempts").mkdir(parents=True, exist_ok=True)
        before, whereabouts = read_attempts(folder), folder / WHEREABOUTS
        mark = read_json(whereabouts)["mark"] if whereabouts.is_file() else []
        for number in count(len(before) + 1):
            path = folder / "attempts" / f"{number:04d}.json"
            with suppress(FileExistsError):
                path.touch(exist_ok=False)
                break
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
        attempt = cls(path, record)
        write_json(path, record)
        earlier = ((one.get("mark"), one.get("job")) for one in reversed(before))
        idle = len(list(takewhile(lambda one: one == (mark, job), earlier)))
        if job and idle >= limit:
            error = errors.NoProgress(
                f"{idle} attempts in a row ended without anything new kept: look at the log, then "
                "lower recipe.checkpoint_every, or raise site.time_limit or site.attempts."
            )
            attempt.end(error)
            raise error
        return attempt

    def end(self, error: BaseException | None) -> None:
        self.record["ended"] = time.time()
        if error is None:
            self.record["outcome"] = "finished"
        elif isinstance(error, errors.Interrupted | errors.Superseded):
            self.record["outcome"] = type(error).__name__.lower()
        else:
            plainly = isinstance(error, UserError | OSError)
            message = str(error) if plainly else f"{type(error).__name__}: {error}"
            self.record["outcome"] = "failed"
            self.record["failure"] = {"class": failure_class(error), "message": message}
        write_json(self.path, self.record)
