"""What commands take for a grid of 1,008 cells: to plan, to submit, to follow and to report it.

`PYTHONPATH=tests python -m benchmarks.thousand_cells`. The grid is the study's 18 cells with 56
values of a rate. Results are made up (tests/report_grids.py): of that grid, where every two rows
are compared, and of 18 cells with 56 seeds. The grid is submitted to a private SLURM (Debian's
packages, installed where they are missing) whose partition is down. Each command is a process of
its own, whose seconds and peak memory are shown.
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

from devcluster import Cluster
from report_grids import Grid

from benchmarks import interleaved
from lion_sweep.report.axes import Cell

GRID = "model=1b,3b,8b paradigm=sparse,dense loss=cl,kd,clkd"
STUDY = [("1b", "3b", "8b"), ("sparse", "dense"), ("cl", "kd", "clkd")]
TIMES = 56
RATE = "recipe.learning_rate"
UNFINISHED = 3  # what status says where cells are left


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
    planned, submitted = asked.folder / "planned", asked.folder / "submitted"
    values = ",".join(repr(1e-4 * (number + 1)) for number in range(asked.times))
    sweep = f"-m {GRID} {RATE}={values} tracking=none"
    there = f"{sweep} site=slurm paths.root={submitted}"
    commands = {
        "plan": f"lion_sweep.plan {sweep} paths.root={planned}",
        "plan again": f"lion_sweep.plan {sweep} paths.root={planned}",
        "submit to SLURM": f"lion_sweep {there}",
        "status of what waits": f"lion_sweep.status --root {submitted}",
        "cancel all": f"lion_sweep.cancel all paths.root={submitted}",
        "report, 56 seeds": f"lion_sweep.report --root {seeds}",
        "report, 56 rows for each of 18": f"lion_sweep.report --root {rates}",
    }
    cells = asked.times * len(list(product(*STUDY)))
    print(f"{cells:,} cells")
    took = {}
    with Cluster(asked.folder / "cluster") as cluster:
        cluster.run("scontrol", "update", "PartitionName=gpu", "State=DOWN")
        for title, command in commands.items():
            told = took[title] = measured(command, asked.folder, cluster.environment)
            memory = told["peak_rss_bytes"] / 2**20
            print(f"{title:<32} {told['seconds']:>7.1f} s {memory:>7.0f} MiB", flush=True)
    interleaved.write(
        {"commands": took},
        checked="every command ended well",
        packages=["hydra-core", "numpy"],
        facts={"cells": cells},
        device=interleaved.processor(),
    )


def measured(command: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Seconds and peak memory of a process. Raises `SystemExit` with what it said if it fails."""
    with (folder / "said.txt").open("w") as said:
        begun = time.perf_counter()
        words = [sys.executable, "-m", *shlex.split(command)]
        process = subprocess.Popen(
            words, stdout=said, stderr=subprocess.STDOUT, env=os.environ | environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
    if (code := os.waitstatus_to_exitcode(status)) not in (0, UNFINISHED):
        text = (folder / "said.txt").read_text()
        raise SystemExit(f"{command}: ended with {code}\n{text[-2000:]}")
    return {"seconds": round(seconds, 1), "peak_rss_bytes": usage.ru_maxrss * 1024}


if __name__ == "__main__":
    main()
