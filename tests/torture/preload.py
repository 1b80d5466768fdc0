"""The layer between a process and its disk that makes faults: faults.c, compiled, preloaded, armed.

It has to be there when Python starts. So a process that wants it starts itself again (`become`),
and whoever it forks arms the layer for itself.
"""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import debian

SOURCE = Path(__file__).with_name("faults.c")
NOTHING, KILL_BEFORE, KILL_HALF_WAY, KILL_AFTER, FAIL = range(5)
# One thread each, as processes are forked; kernels of numba in a pool that outlives that.
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "NUMBA_THREADING_LAYER": "workqueue",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "SLURM_CONF": "/dev/null",
}
ERRORS = {
    "disk full": errno.ENOSPC,
    "quota": errno.EDQUOT,
    "read-only folder": errno.EROFS,
    "input/output error": errno.EIO,
}


@dataclass(frozen=True)
class Fault:
    """What happens to a process, at the `nth` call by which it writes, for so many `times`."""

    kind: int = NOTHING
    nth: int = 0
    times: int = 1
    error: int = 0
    lag: float = 0.0  # seconds in which it does not see what others changed
    clock: int = 0  # seconds that its clock is off

    def arm(self, folder: Path) -> None:
        """For this process, and what it writes in `folder`, from now on."""
        armed = ctypes.CDLL(None).torture_arm
        armed.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_long]
        armed.argtypes += [ctypes.c_int, ctypes.c_double, ctypes.c_long]
        told = f"{folder}/".encode(), self.kind, self.nth, self.times, self.error, self.lag
        armed(*told, self.clock)


def disarm() -> int:
    """Nothing more happens to this process; returns how often it wrote."""
    calls = int(ctypes.CDLL(None).torture_calls())
    Fault().arm(Path("/nonexistent"))
    return calls


def loaded() -> bool:
    """Whether the layer is there."""
    return "libtorture" in os.environ.get("LD_PRELOAD", "")


def become(module: str, scratch: Path) -> NoReturn:
    """Be `python -m MODULE` with the words of this process again, with the layer."""
    if not shutil.which("gcc"):
        debian.install("gcc", "libc6-dev")
    scratch.mkdir(parents=True, exist_ok=True)
    library = scratch / "libtorture.so"
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    more = {"LD_PRELOAD": str(library.resolve()), "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-m", module, *sys.argv[1:]]
    os.execve(sys.executable, words, os.environ | SETTINGS | more)
