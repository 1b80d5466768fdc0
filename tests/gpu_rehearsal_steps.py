"""Steps of the rehearsal that go wrong in every way; test_gpu_rehearsal.py runs them."""

import os
import subprocess
import time
from collections.abc import Iterator

from benchmarks.gpu_rehearsal.target import Case, Figure, Target

KIND = os.environ.get("REHEARSED", "well")


def cases(target: Target) -> list[Case]:
    """A case that ends well, and one that does what the environment says."""
    return [Case("first", _well, 0), Case("second", _KINDS[KIND], 0), Case("third", _well, 0)]


def _well() -> Iterator[Figure]:
    yield Figure("seed", 7, "s")


def _raises() -> Iterator[Figure]:
    yield Figure("before", 1)
    raise ValueError("of no use")


def _dies() -> Iterator[Figure]:
    yield Figure("before", 2)
    print("last words", flush=True)
    os._exit(3)


def _hangs() -> Iterator[Figure]:
    yield Figure("before", 3)
    child = subprocess.Popen(["sleep", "600"])
    print(f"child {child.pid}", flush=True)
    time.sleep(600)


_KINDS = {"well": _well, "raises": _raises, "dies": _dies, "hangs": _hangs}
