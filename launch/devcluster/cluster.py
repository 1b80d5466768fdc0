"""A cluster: its daemons in their order, and what can happen to its nodes."""

import getpass
import json
import logging
import os
import re
import subprocess
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from launch.devcluster import config, packages, processes
from launch.devcluster.daemons import Daemon, stop_all
from launch.devcluster.errors import ClusterError

LOG = logging.getLogger(__name__)

SETTINGS = "settings.json"
# The longest of SLURM's sockets, in spool/, has to fit into the 107 letters that a socket may have.
FOLDER_NAME = re.compile(r"/[\w./+-]{1,68}")
IN_SERVICE = {"idle", "mixed", "allocated", "completing"}
OUT_OF_SERVICE = {"down", "drained", "draining", "drain"}


@dataclass
class Cluster:
    """SLURM with `nodes` nodes of 8 GPUs each, all on this machine, all files in `folder`.

    Nodes are called n1, n2, ...; the controller listens on `port`, the nodes and the accounting on
    the ports that follow. A node that does not answer for `slurmd_timeout` seconds is down. With
    `signal_on_preempt`, a job's own signal (`sbatch --signal`) is also sent when it is preempted.
    """

    folder: Path
    nodes: int = 4
    port: int = 26800
    accounting: bool = True
    slurmd_timeout: int = 20
    signal_on_preempt: bool = False

    def __post_init__(self) -> None:
        """Any spelling of the folder means the same cluster."""
        self.folder = Path(self.folder).resolve()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The cluster that was made in a folder."""
        path = folder / SETTINGS
        if not path.is_file():
            raise ClusterError(f"{folder} holds no cluster: make one with `up {folder}`.")
        return cls(folder, **json.loads(path.read_text()))

    def __enter__(self) -> Self:
        """Start it."""
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.down()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use this cluster."""
        return {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf")}

    @property
    def node_names(self) -> list[str]:
        """n1, n2, ..."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    def run(self, *command: str, timeout: float = 30) -> str:
        """The output of one of SLURM's commands; ClusterError with what it said if it failed."""
        try:
            done = subprocess.run(
                command, env=self._environment, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{' '.join(command)}: no answer in {timeout} s") from None
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def up(self) -> None:
        """Start what does not run, and wait until every node can take jobs."""
        packages.ensure(self.accounting)
        lived = any(daemon.pid() for daemon in self._daemons)
        self._configure(lived)
        try:
            self._start()
        except BaseException:
            if not lived:
                self.down()
            raise

    def down(self) -> None:
        """Cancel the jobs and stop everything, in the order in which each still finds its peers."""
        if self._controller.pid() is not None:
            self._cancel_jobs()
        LOG.info("stopping")
        stop_all(list(self._slurmds.values()))
        for name in self.node_names:
            processes.kill(self._steps(name))
        stop_all([self._controller])
        stop_all(self._accounting[1:])
        stop_all([*self._accounting[:1], self._munged])

    def kill_node(self, name: str) -> None:
        """End a node as a crash would: at once, with its steps and all that they have started."""
        slurmd = self._slurmd(name)
        # First those that could report the end of the others.
        if (pid := slurmd.pid()) is not None:
            processes.kill([pid])
        while steps := self._steps(name):
            processes.kill(steps)

    def start_node(self, name: str) -> None:
        """Bring a node back into service."""
        slurmd = self._slurmd(name)
        slurmd.start()
        slurmd.wait()

    def _configure(self, lived: bool) -> None:
        """Write the files of a cluster that is down; a live one must be as asked."""
        settings = {name: value for name, value in asdict(self).items() if name != "folder"}
        path = self.folder / SETTINGS
        if lived and path.is_file():
            found = json.loads(path.read_text())
            different = [f"{name}={found[name]}" for name in settings if found[name] != settings[name]]
            if different:
                raise ClusterError(
                    f"The cluster in {self.folder} runs with {', '.join(different)}: "
                    "ask for the same, or take it down first."
                )
            return
        if not FOLDER_NAME.fullmatch(str(self.folder)):
            raise ClusterError(
                f"{self.folder} cannot hold a cluster: SLURM needs a path of at most 69 letters, "
                "digits and . _ + - /."
            )
        config.write(self.folder, slurmdbd_port=self._slurmdbd_port, **settings)
        path.write_text(json.dumps(settings, indent=2) + "\n")
