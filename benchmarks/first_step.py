"""How long a cell takes to its first step of training: the first of a grid, and the next one.

`python -m benchmarks.first_step`. Two cells of one size, sparse and dense, in a fresh folder per
round: the first derives the collection, builds the stand-in, tokenises and adapts; the second finds
all that. In one command, as a grid on this machine, the second cell's seconds run from the first
one's result. As commands of their own, as jobs on a cluster, they run from the command, so that
Python's start and the imports are in them. A step has been taken when the log says so.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import interleaved

FIRST, SECOND = "sparse", "dense"
CELLS = ["model=1b", "loss=cl", "budget=steps", "budget.steps=1", "tracking=none"]


@contextmanager
def command(root: Path, *paradigms: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The cells of these paradigms as one command, which is killed when nobody looks any more."""
    words = [*CELLS, f"paradigm={','.join(paradigms)}", f"paths.root={root}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lion_sweep", "-m", *words, "budget.tolerance=null", "site=laptop"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(root: Path, pattern: str, word: str, process: "subprocess.Popen[bytes]") -> str:
    """What follows `word` in a file below `root`, as soon as it is there."""
    while True:
        alive = process.poll() is None
        for path in root.glob(pattern):
            _, found, rest = path.read_text(encoding="utf-8").partition(word)
            if found:
                return rest.split("\n")[0]
        if not alive:
            raise SystemExit(f"The command ended without {word.strip()!r} in {pattern}.")
        time.sleep(0.02)


def step(root: Path, paradigm: str, process: "subprocess.Popen[bytes]") -> str:
    """What the log says of the cell's step, when it is taken."""
    return wait_for(root, f"cells/1b-{paradigm}-cl-*/log.txt", " train 1/1 ", process)


def main() -> None:
    """Check that the second cell's step is what it is in a fresh folder, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    together: dict[str, list[float]] = {"second cell": [], "first cell": []}
    apart: dict[str, list[float]] = {"second cell": [], "first cell": []}
    said = set()
    with tempfile.TemporaryDirectory() as folder:
        with command(Path(folder) / "alone", SECOND) as process:
            said.add(step(Path(folder) / "alone", SECOND, process))
        for number in range(rounds):
            root = Path(folder) / f"together-{number}"
            start = time.perf_counter()
            with command(root, FIRST, SECOND) as process:
                step(root, FIRST, process)
                together["first cell"].append(time.perf_counter() - start)
                wait_for(root, f"cells/1b-{FIRST}-cl-*/result.json", '"scores"', process)
                start = time.perf_counter()
                said.add(step(root, SECOND, process))
                together["second cell"].append(time.perf_counter() - start)
            root = Path(folder) / f"apart-{number}"
            for name, paradigm in (("first cell", FIRST), ("second cell", SECOND)):
                start = time.perf_counter()
                with command(root, paradigm) as process:
                    said_now = step(root, paradigm, process)
                    apart[name].append(time.perf_counter() - start)
            said.add(said_now)
    if len(said) > 1:
        raise SystemExit(f"The second cell's first step differs: {said}")
    interleaved.report(
        together,
        checked="the second cell's first losses are those of the cell in a fresh folder",
        packages=["torch", "transformers", "hydra-core"],
        facts={"rounds": rounds, "cells": "1b sparse CL, then 1b dense CL"},
        cases={"as commands of their own": apart},
    )


if __name__ == "__main__":
    main()
