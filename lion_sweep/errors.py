"""Errors that are shown as a plain sentence, without a traceback, and what else ends a cell."""

import errno
import sys
from typing import NoReturn

IMPOSSIBLE = 2  # exit status of a command that was refused
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(ValueError):
    """Something the user asked for is impossible; the message says what to type instead."""


class OutOfMemory(UserError):
    """A device's memory did not suffice; the message names the setting to go on with."""


class NotFinite(UserError):
    """The loss is no number any more."""


class NoProgress(UserError):
    """Attempt after attempt died before anything new was kept."""


class Interrupted(Exception):
    """A signal asked the process to stop; what it has done is kept, and it can go on."""


class Busy(Exception):
    """Another process is at it, and nobody wanted to wait."""


class Superseded(Exception):
    """Another attempt has taken over; this one must not write any more."""


def refuse(error: Exception) -> NoReturn:
    """Say in plain words what was wrong, and stop."""
    print(f"lion_sweep: {str(error).strip()}", file=sys.stderr, flush=True)
    raise SystemExit(IMPOSSIBLE)
