"""A job on one machine: all its ranks, started and ended together, as srun does on a cluster.

`python -m launch.ranks FOLDER TOKEN RANKS`; the job is called by the number of this process.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from launch.job import DEAF, GRACE_SECONDS, PORT, SIGNALS, TERMINATED
from launch.status import job_log
from lion_sweep.cell.tasks import Attempt
from lion_sweep.errors import Killed

POLL_SECONDS = 0.1
# Where one has failed, the others may be about to say of what.
LAST_WORDS_SECONDS = 10
PR_SET_PDEATHSIG = 1


def run(folder: Path, token: str, count: int) -> int:
    """Do the task in `folder` by `count` ranks; the exit status.

    Signals are passed on to all of them. Where one ends badly, or the first, the others wait for it
    in vain: they are ended too, after the time that it takes to keep what there is.
    """
    asked: list[int] = []
    for heard in (*SIGNALS, signal.SIGINT):
        signal.signal(heard, lambda number, _: asked.append(number))
    ranks, told = _start(folder, token, count), 0
    first: tuple[int, int] | None = None  # exit status and number of the rank that ended so
    since = 0.0
    while any(rank.poll() is None for rank in ranks):
        for number in asked[told:]:
            told += 1
            for rank in ranks:
                if number != signal.SIGINT:  # which a terminal has sent to all of them
                    rank.send_signal(number)
        codes = [(rank.returncode, number) for number, rank in enumerate(ranks)]
        ended = [(code, number) for code, number in codes if code or (code, number) == (0, 0)]
        if ended and not first:
            first, since = min(ended), time.monotonic()
        if first:
            keeps = first[0] == TERMINATED and ranks[0].returncode is None
            if time.monotonic() - since > (GRACE_SECONDS if keeps else LAST_WORDS_SECONDS):
                for rank in ranks:
                    rank.kill()
        time.sleep(POLL_SECONDS)
    first = first or min((rank.returncode, number) for number, rank in enumerate(ranks))
    attempt = Attempt.last(folder, str(os.getpid()))
    if first[0] < 0 and not asked and attempt:
        attempt.end(Killed(_told(first[0], first[1], count)), last_word=True)
    return int(any(rank.returncode for rank in ranks))


def _told(status: int, number: int, count: int) -> str:
    name = signal.Signals(-status).name
    more = "; where nobody has sent it, memory ran out" if -status == signal.SIGKILL else ""
    return f"rank {number} of {count} (from 0 on) was ended by {name}{more}."


def _start(folder: Path, token: str, count: int) -> list["subprocess.Popen[bytes]"]:
    """The ranks, which submitit takes for those of its own local jobs."""
    job, root = str(os.getpid()), folder.parent.parent
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    of_all = {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_ID": job,
        "SUBMITIT_LOCAL_NTASKS": str(count),
        PORT: str(port),
    }
    job_log(root, job).parent.mkdir(parents=True, exist_ok=True)
    ranks = []
    for rank in range(count):
        own = {"SUBMITIT_LOCAL_GLOBALID": str(rank), "SUBMITIT_LOCAL_LOCALID": str(rank)}
        with job_log(root, job, rank).open("ab") as log:
            started = subprocess.Popen(
                [*DEAF, "-u", "-m", "launch.job", str(folder), token],
                env=os.environ | of_all | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
            )
        ranks.append(started)
    return ranks


def _end_with_parent() -> None:
    """Whoever kills this process must not leave ranks behind that nobody knows of."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
