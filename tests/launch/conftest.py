"""A real SLURM cluster for the tests of this folder, and grids small enough for it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launch.devcluster import Cluster

NODES = 4
PORTS = 12
TINY = [
    "data=beir",
    "data.name=twin",
    "teacher=bm25",
    "loss.batch_size=8",
    "recipe.adapt.steps=2",
    "recipe.adapt.batch_size=2",
    "recipe.adapt.chunk=16",
    "evaluation.permutations=99",
    "budget.tolerance=null",
    "tracking=none",
]
PATIENCE_SECONDS = 600


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on."""
    for first in range(26800, 60000, count):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.create_server(("127.0.0.1", port)))
            return first
        except OSError:
            continue
        finally:
            for taken in sockets:
                taken.close()
    raise RuntimeError("no free ports")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four nodes with accounting; started once."""
    folder = tmp_path_factory.mktemp("slurm")
    with Cluster(folder, nodes=NODES, port=free_ports(PORTS), slurmd_timeout=10) as cluster:
        yield cluster


@dataclass
class Shell:
    """A user's shell: commands of the package with this environment, on this collection."""

    environment: dict[str, str]
    twin: Path

    def words(self, *words: str) -> list[str]:
        """The words with those that make every grid small, where they say nothing else."""
        chosen = {word.split("=")[0] for word in words}
        tiny = [*TINY, f"data.path={self.twin}"]
        return [*words, *(word for word in tiny if word.split("=")[0] not in chosen)]

    def start(self, *words: str, module: str = "lion_sweep") -> "subprocess.Popen[str]":
        """A command that goes on while the test does."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *self.words(*words)],
            env=os.environ | self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *words: str, module: str = "lion_sweep") -> tuple[int, str]:
        """(exit status, what it printed) of a finished command."""
        command = self.start(*words, module=module)
        printed, _ = command.communicate(timeout=PATIENCE_SECONDS)
        return command.returncode, printed

    def status(self, root: Path) -> tuple[int, list[dict[str, Any]]]:
        """(exit status, rows) of the status command."""
        done = subprocess.run(
            [sys.executable, "-m", "lion_sweep.status", f"paths.root={root}", "status.format=json"],
            env=os.environ | self.environment,
            text=True,
            capture_output=True,
        )
        return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="session")
def slurm(cluster: Cluster, small_beir: Path) -> Shell:
    """A shell on the cluster's login node."""
    return Shell(cluster.environment, small_beir)


@pytest.fixture(scope="session")
def laptop(small_beir: Path) -> Shell:
    """A shell where no controller answers; sums are split as in jobs of one core."""
    return Shell({"SLURM_CONF": "/nowhere", "OMP_NUM_THREADS": "1"}, small_beir)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    """The first true value of `condition`; fails after a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


def results(root: Path) -> dict[str, dict[str, Any]]:
    """Results by cell."""
    found = (json.loads(path.read_text()) for path in root.glob("cells/*/result.json"))
    return {result["id"]: result for result in found}


def attempts(folder: Path) -> list[dict[str, Any]]:
    """Records of a task's attempts."""
    paths = sorted((folder / "attempts").glob("*.json"))
    return [json.loads(path.read_text() or "{}") for path in paths]


@pytest.fixture(scope="session")
def helpers() -> Any:
    """Functions of this file, for tests that cannot import it."""

    class Helpers:
        wait_for = staticmethod(wait_for)
        results = staticmethod(results)
        attempts = staticmethod(attempts)

    return Helpers
