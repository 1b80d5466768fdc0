"""Following a grid: the table of its tasks, again and again until all have ended."""

import sys
import time
from collections.abc import Callable

from launch import status
from launch.status import Status
from lion_sweep.errors import UserError

POLL_SECONDS = 5.0


def follow(survey: Callable[[], list[Status]]) -> int:
    """Print what changes until every task has ended; returns the exit status.

    Ctrl-C stops following, not the jobs. A scheduler that does not answer is asked again.
    """
    shown: dict[str, str] = {}
    try:
        while True:
            try:
                statuses = survey()
            except UserError as error:
                print(error, file=sys.stderr, flush=True)
                time.sleep(POLL_SECONDS)
                continue
            if all(found.state in status.ENDED for found in statuses):
                print(status.as_table(statuses), flush=True)
                return status.exit_status(statuses)
            if not shown:
                print(status.as_table(statuses), "\n", flush=True)
            for found in statuses:
                line = f"{found.task.label}: {found.state} {found.score or found.reason}".rstrip()
                if shown and shown.get(found.task.name) != line:
                    print(line, flush=True)
                shown[found.task.name] = line
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        print("\nno longer following; the jobs go on.")
        return status.UNFINISHED
