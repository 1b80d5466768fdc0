"""Debian's packages that tests need, installed where that can be done."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# Of processes that test side by side one installs at a time: apt-get refuses to wait for another.
LOCK = Path(tempfile.gettempdir()) / "lion-sweep-tests-install.lock"


def install(program: str, *packages: str) -> str:
    """Why there is no such program; empty where there is one, which this installs as root."""
    if shutil.which(program):
        return ""
    wanted = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"no {program}; on Debian: sudo apt-get install {wanted}"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    made = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["apt-get", "update"], made):
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                return f"{' '.join(command)} failed: {done.stderr[-500:]}"
    return ""
