"""What could make two machines come to different numbers, and stands in no key."""

import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

VERSIONS = (
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "numpy",
    "scipy",
    "numba",
    "bm25s",
    "ranx",
    "wordllama",
)


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute; those that are not here are left out."""
    found = {"python": platform.python_version()}
    for package in VERSIONS:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def environment() -> dict[str, Any]:
    """Processor, threads, system, and the code's own version."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "blas_kernel": os.environ.get("OPENBLAS_CORETYPE"),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "system": platform.platform(),
        **code(),
    }


@cache
def processor() -> str:
    """The processor's own name."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


@cache
def code() -> dict[str, Any]:
    """The commit of the code and whether its tree was changed since; None outside a checkout."""
    root = Path(__file__).parent.parent.parent
    found: dict[str, Any] = {"commit": None, "changed": None}

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    if (root / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):
            commit = git("rev-parse", "HEAD")
            changes = git("status", "--porcelain", "--", "lion_sweep")
            found = {"commit": commit, "changed": bool(changes)}
    return found
