"""A real SLURM cluster for the tests of this folder."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from devcluster import Cluster
from support import Shell

NODES = 4
PORTS = 12


PAUSE = """
import os, time

class Pause:
    needs_teacher = needs_negatives = False
    def __init__(self, weight: float) -> None:
        self.weight = weight
    def __call__(self, step):
        time.sleep(float(os.environ.get("PAUSE_SECONDS", 0)))
        return step.query_BD.sum() * 0.0
"""
LOSS = """
name: drawn_out
batch_size: 8
negatives: 2
terms:
  cl: {_target_: lion_sweep.losses.contrastive.Contrastive, weight: 1.0}
  pause: {_target_: pause.Pause, weight: 1.0}
"""


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for first in range(26800 + 2000 * worker, 60000, count):
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
    with Cluster(folder, nodes=NODES, port=free_ports(PORTS)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm(cluster: Cluster, small_beir: Path) -> Shell:
    """A shell on the cluster's login node."""
    return Shell(cluster.environment, small_beir)


@pytest.fixture(scope="session")
def drawn_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a loss whose steps take PAUSE_SECONDS more, and its class."""
    folder = tmp_path_factory.mktemp("drawn_out")
    (folder / "pause.py").write_text(PAUSE)
    (folder / "loss").mkdir()
    (folder / "loss" / "drawn_out.yaml").write_text(LOSS)
    return folder
