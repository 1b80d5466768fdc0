"""Errors that are shown as a plain sentence, without a traceback, and what else ends a cell."""

import errno
import os
import re
import sys
import traceback
from typing import NoReturn

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

IMPOSSIBLE = 2  # exit status of a command that was refused
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OF_A_DISK = (*FULL_DISK, errno.EROFS, errno.EIO)
IN_RUST = re.compile(r"\(os error (\d+)\)")  # the words of safetensors, tokenizers


class UserError(ValueError):
    """Something the user asked for is impossible; the message says what to type instead."""


class OutOfMemory(UserError):
    """A device's memory did not suffice; the message names the setting to go on with."""


class NotFinite(UserError):
    """The loss, or its gradient, is no number any more."""


class Collapse(UserError):
    """What is trained has come to nothing; the message has the likely cause, and what to change."""


class NoProgress(UserError):
    """Attempt after attempt died before anything new was kept."""


class Killed(UserError):
    """A rank was ended from outside, and with it all others of its job."""


class Interrupted(Exception):
    """A signal asked the process to stop; what it has done is kept, and it can go on."""


class Busy(Exception):
    """Another process is at it, and nobody wanted to wait."""


class Superseded(Exception):
    """Another attempt has taken over; this one must not write any more."""


# What says in plain words what was wrong.
PLAIN = (UserError, HydraException, OmegaConfBaseException, OSError)


def sentence(error: BaseException) -> str:
    """What went wrong: plain words as they are, the first of others after the error's kind."""
    if isinstance(error, PLAIN):
        return str(error).strip()
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def of_disk(error: BaseException) -> OSError | None:
    """The write that failed, where a library raises something of its own for that.

    As torch does, whose complaint about its file comes over the error that was first.
    """
    at: BaseException | None = error
    while at and not isinstance(at, UserError):
        if isinstance(at, OSError):
            return at if at is error or at.errno in OF_A_DISK else None
        if told := IN_RUST.search(str(at)):
            number = int(told[1])
            return OSError(number, os.strerror(number)) if number in OF_A_DISK else None
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return None


def trace(error: BaseException) -> None:
    """Show where it happened, to whoever has asked for it."""
    if os.environ.get("LION_SWEEP_TRACEBACK"):
        traceback.print_exception(error)


def refuse(error: BaseException) -> NoReturn:
    """Say in plain words what was wrong, and stop."""
    trace(error)
    more = "" if isinstance(error, PLAIN) else " (LION_SWEEP_TRACEBACK=1 shows where)"
    print(f"lion_sweep: {sentence(error)}{more}", file=sys.stderr, flush=True)
    raise SystemExit(IMPOSSIBLE)
