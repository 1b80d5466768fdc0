"""A real SLURM cluster for the tests of this folder."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Shell

from launch.devcluster import Cluster

NODES = 4
PORTS = 12


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
    with Cluster(folder, nodes=NODES, port=free_ports(PORTS), slurmd_timeout=10) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm(cluster: Cluster, small_beir: Path) -> Shell:
    """A shell on the cluster's login node."""
    return Shell(cluster.environment, small_beir)
