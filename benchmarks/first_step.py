"""How long a cell takes to its first step of training: the first of a grid, and the next one.

`python -m benchmarks.first_step`. Commands of their own, in a fresh folder per round: the first
derives the collection, builds the stand-in, tokenises and adapts; the second, of the same size and
the other paradigm, finds all that. Seconds run from the command to the step in the log.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import interleaved

CELL = ["model=1b", "loss=cl", "budget=steps", "budget.steps=1", "tracking=none"]


def first_step(root: Path, paradigm: str) -> tuple[float, str]:
    """(seconds, what the log says of the step)."""
    words = [*CELL, f"paradigm={paradigm}", f"paths.root={root}", "budget.tolerance=null"]
    start = time.perf_counter()
    command = subprocess.Popen(
        [sys.executable, "-m", "lion_sweep", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            for log in root.glob(f"cells/1b-{paradigm}-cl-*/log.txt"):
                for line in log.read_text(encoding="utf-8").splitlines():
                    if " train 1/1 " in line:
                        return time.perf_counter() - start, line.split(" train 1/1 ")[1]
            if command.poll() is not None:
                raise SystemExit(f"The cell ended without a step: {' '.join(words)}")
            time.sleep(0.02)
    finally:
        command.wait()


def main() -> None:
    """Check that the second cell's step is what it is in a fresh folder, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {"second cell": [], "first cell": []}
    said = set()
    with tempfile.TemporaryDirectory() as folder:
        said.add(first_step(Path(folder) / "alone", "dense")[1])
        for number in range(rounds):
            root = Path(folder) / str(number)
            seconds["first cell"].append(first_step(root, "sparse")[0])
            second, step = first_step(root, "dense")
            seconds["second cell"].append(second)
            said.add(step)
    if len(said) > 1:
        raise SystemExit(f"The second cell's first step differs: {said}")
    interleaved.report(
        seconds,
        checked="the second cell's first losses are those of the cell in a fresh folder",
        packages=["torch", "transformers", "hydra-core"],
        facts={"rounds": rounds, "cells": "1b sparse CL, then 1b dense CL"},
    )


if __name__ == "__main__":
    main()
