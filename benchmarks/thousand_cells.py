"""What commands take for a grid of 1,008 cells: to plan it, to follow it, to report it.

`PYTHONPATH=tests python -m benchmarks.thousand_cells`. Results are made up (tests/report_grids.py):
the study's 18 cells with 56 seeds, and with 56 values of a key that is swept, where every two rows
are compared. Each command is a process of its own, whose seconds and peak memory are shown.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from report_grids import Grid

from benchmarks import interleaved
from lion_sweep.report.axes import Cell

GRID = "model=1b,3b,8b paradigm=sparse,dense loss=cl,kd,clkd"
STUDY = [("1b", "3b", "8b"), ("sparse", "dense"), ("cl", "kd", "clkd")]
TIMES = 56
RATE = "recipe.learning_rate"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir(), "thousand_cells")
    )
    parser.add_argument("--times", type=int, default=TIMES, help="so many times the 18 cells (56)")
    asked = parser.parse_args()
    shutil.rmtree(asked.folder, ignore_errors=True)
    seeds, rates = asked.folder / "seeds", asked.folder / "rates"
    for models in product(*STUDY):
        for number in range(asked.times):
            Grid(seeds).finished(Cell(*models), seed=number)
            Grid(rates).finished(Cell(*models, ((RATE, repr(1e-4 * (number + 1))),)))
    empty = asked.folder / "planned"
    sweep = f"{GRID} seed={','.join(map(str, range(asked.times)))} paths.root={empty}"
    commands = {
        "plan": f"lion_sweep.plan -m {sweep}",
        "plan again": f"lion_sweep.plan -m {sweep}",
        "status, 56 seeds": f"lion_sweep.status --root {seeds}",
        "report, 56 seeds": f"lion_sweep.report --root {seeds}",
        "report, 56 rows for each of 18": f"lion_sweep.report --root {rates}",
    }
    cells = asked.times * len(list(product(*STUDY)))
    print(f"{cells:,} cells")
    took = {}
    for title, command in commands.items():
        told = took[title] = measured(command, asked.folder)
        memory = told["peak_rss_bytes"] / 2**20
        print(f"{title:<32} {told['seconds']:>7.1f} s {memory:>7.0f} MiB", flush=True)
    interleaved.write(
        {"commands": took},
        checked="every command ended well",
        packages=["hydra-core", "numpy"],
        facts={"cells": cells},
        device=interleaved.processor(),
    )


def measured(command: str, folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of a process. Raises `SystemExit` with what it said if it fails."""
    with (folder / "said.txt").open("w") as said:
        begun = time.perf_counter()
        words = [sys.executable, "-m", *shlex.split(command)]
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
    if code := os.waitstatus_to_exitcode(status):
        text = (folder / "said.txt").read_text()
        raise SystemExit(f"{command}: ended with {code}\n{text[-2000:]}")
    return {"seconds": round(seconds, 1), "peak_rss_bytes": usage.ru_maxrss * 1024}


if __name__ == "__main__":
    main()
