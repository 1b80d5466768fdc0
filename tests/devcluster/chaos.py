"""Kills jobs and nodes, and freezes the controller, while a grid runs; nothing may come of it.

    python -m devcluster.chaos FOLDER --kills 30 --seed 1 -- -m model=1b,3b,8b ...

Runs the grid twice with its own command, in this process' environment for comparison and on a
private cluster under fire, and compares every score. FOLDER receives cluster and outputs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster

WAYS = ("process", "requeue", "node", "controller")
FROZEN_SECONDS = 8.0
# Nodes come back after so many strikes; one is always left standing.
OUTAGE = 2


@dataclass
class Chaos:
    """Strikes at what runs for the grid in `root`, the same way for the same seed and luck."""

    cluster: Cluster
    root: Path
    random: random.Random
    strikes: list[str] = field(default_factory=list)
    down: list[tuple[str, int]] = field(default_factory=list)

    def strike(self) -> bool:
        """Kill something that runs; False where nothing does."""
        for name, since in list(self.down):
            if len(self.strikes) - since >= OUTAGE:
                self._restore(name)
        victims = self._running()
        if not victims:
            self.calm()  # perhaps nothing runs because too little is left to run on
            return False
        victim, way = self.random.choice(victims), self.random.choice(WAYS)
        if way == "controller":
            self.cluster.freeze_controller(FROZEN_SECONDS)
            self.strikes.append(f"controller frozen for {FROZEN_SECONDS:g} s")
            return True
        if way == "node" and len(self.down) + 1 < self.cluster.nodes:
            node = str(victim["node"])
            if node in [name for name, _ in self.down]:
                return False
            self.cluster.kill_node(node)
            self.down.append((node, len(self.strikes)))
        elif way == "requeue":
            command = ["scontrol", "requeue", str(victim["job"])]
            env = os.environ | self.cluster.environment
            if subprocess.run(command, env=env, capture_output=True).returncode:
                return False
        else:
            try:
                os.kill(int(victim["pid"]), signal.SIGKILL)
            except ProcessLookupError:
                return False
        self.strikes.append(f"{way} {victim['job']} on {victim['node']}")
        return True

    def calm(self) -> None:
        """Bring every node back."""
        for name, _ in list(self.down):
            self._restore(name)

    def _restore(self, name: str) -> None:
        self.cluster.start_node(name)
        self.down = [(node, since) for node, since in self.down if node != name]

    def _running(self) -> list[dict[str, Any]]:
        """Records of attempts whose process lives."""
        found = []
        for folder in sorted(self.root.glob("*/*/attempts")):
            last = max(folder.glob("*.json"), default=None)
            record = json.loads(last.read_text() or "{}") if last else {}
            alive = record.get("outcome") == "running" and Path(f"/proc/{record['pid']}").exists()
            if alive:
                found.append(record)
        return found


def unleash(chaos: Chaos, command: list[str], kills: int, pause: float) -> None:
    """Give the command again and again until the grid is done, striking `kills` times meanwhile."""
    env = os.environ | chaos.cluster.environment
    while True:
        running = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        while running.poll() is None:
            time.sleep(chaos.random.uniform(0.5, 1.5) * pause)
            if len(chaos.strikes) < kills:
                chaos.strike()
            else:
                chaos.calm()
        printed, _ = running.communicate()
        if running.returncode not in (0, 4):
            raise RuntimeError(printed)
        if running.returncode == 0 and "submitted; this shell may go" not in printed:
            return


def differences(quiet: Path, stormy: Path) -> list[str]:
    """Cells whose results differ, or are missing on one side."""

    def read(root: Path) -> dict[str, dict[str, Any]]:
        found = (json.loads(path.read_text()) for path in root.glob("cells/*/result.json"))
        return {result["id"]: result for result in found}

    one, other = read(quiet), read(stormy)
    same = ("scores", "untrained", "gain", "ledger")
    return [
        name
        for name in sorted(one.keys() | other.keys())
        if name not in one
        or name not in other
        or any(one[name][key] != other[name][key] for key in same)
    ]


@dataclass(frozen=True)
class Storm:
    """What came of a grid under fire."""

    strikes: list[str]
    different: list[str]  # cells, from those of the quiet run
    cells: int  # that finished
    tries: int


def storm(
    folder: Path, words: list[str], kills: int, seed: int, pause: float = 10.0, port: int = 26800
) -> Storm:
    """Run the grid of these words twice in `folder`, and compare."""
    command = [sys.executable, "-m", "lion_sweep", *words]
    quiet, stormy = folder.resolve() / "quiet", folder.resolve() / "stormy"
    # Here one process runs all: no job, no kill. One core, as in the jobs, splits sums as they do.
    one_core = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, f"paths.root={quiet}", "site=laptop"], check=True, env=one_core)
    with Cluster(folder / "cluster", port=port, slurmd_timeout=30) as cluster:
        chaos = Chaos(cluster, stormy, random.Random(seed))
        more = ["site=slurm", "site.cpus=1", "site.retry=failed", "site.attempts=1000"]
        more += [f"paths.root={stormy}"]
        unleash(chaos, [*command, *more], kills, pause)
    cells = len(list(stormy.glob("cells/*/result.json")))
    tries = len(list(stormy.glob("*/*/attempts/*.json")))
    return Storm(chaos.strikes, differences(quiet, stormy), cells, tries)


def main() -> int:
    """The exit status: 0 when every cell ended as in the quiet run, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=10.0, help="mean seconds between strikes")
    parser.add_argument("--port", type=int, default=26800)
    here = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    asked, words = parser.parse_args(sys.argv[1:here]), sys.argv[here + 1 :]
    found = storm(asked.folder, words, asked.kills, asked.seed, asked.pause, asked.port)
    for strike in found.strikes:
        print(f"struck: {strike}")
    print(f"{len(found.strikes)} strikes, {found.tries} attempts, {found.cells} cells finished")
    alike = "every result is that of the quiet run"
    print(alike if not found.different else f"different: {found.different}")
    return 1 if found.different or len(found.strikes) < asked.kills else 0


if __name__ == "__main__":
    raise SystemExit(main())
