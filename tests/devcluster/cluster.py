"""A cluster: its daemons in their order, and what can happen to its nodes."""

import json
import logging
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from devcluster import config, packages, processes, programs
from devcluster.daemons import Daemon, stop
from devcluster.errors import ClusterError

LOG = logging.getLogger(__name__)

SETTINGS = "settings.json"
# The longest of SLURM's sockets, in spool/, has to fit into the 107 letters that a socket may have.
FOLDER_NAME = re.compile(r"/[\w./+-]{1,68}")
IN_SERVICE = {"idle", "planned", "mixed", "allocated", "completing"}
OUT_OF_SERVICE = {"down", "drained", "draining"}


@dataclass
class Cluster:
    """SLURM with `nodes` nodes of 8 GPUs each, all on this machine, all files in `folder`.

    Nodes are called n1, n2, ...; the controller listens on `port`, the nodes and the accounting on
    the ports that follow. A node that has not answered for `slurmd_timeout` seconds, and then for
    two exchanges of messages, is down. With `signal_on_preempt`, a job's own signal
    (`sbatch --signal`) also comes when it is preempted.
    """

    folder: Path
    nodes: int = 4
    port: int = 26800
    accounting: bool = True
    slurmd_timeout: int = 20
    signal_on_preempt: bool = False

    def __post_init__(self) -> None:
        """Every spelling of the folder means the same cluster."""
        self.folder = Path(self.folder).resolve()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The cluster that was made in a folder."""
        path = folder / SETTINGS
        if not path.is_file():
            raise ClusterError(f"{folder} holds no cluster.")
        return cls(folder, **json.loads(path.read_text()))

    def __enter__(self) -> Self:
        """Start it."""
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
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
        """What one of SLURM's commands prints; ClusterError with its own words if it fails."""
        try:
            done = subprocess.run(
                command, env=self._environment(), capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{' '.join(command)}: no answer in {timeout} s") from None
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def up(self) -> None:
        """Start what does not run, and wait until every node is in service."""
        packages.ensure(self.accounting)
        daemons = self._daemons()
        missing = [daemon for daemon in daemons if daemon.pid() is None]
        if len(missing) < len(daemons):
            self._check_settings()
        self._check_ports({daemon.port for daemon in missing if daemon.port})
        if len(missing) == len(daemons):
            self._configure()
        try:
            self._start(missing)
        except BaseException:
            if len(missing) == len(daemons):
                self.down()
            raise

    def down(self) -> None:
        """Cancel the jobs and stop the daemons: each while those that it reports to still live."""
        *base, controller = self._base()
        if controller.pid() is not None:
            self._cancel_jobs()
        LOG.info("stopping the daemons")
        stop(self._slurmds().values())
        for name in self.node_names:
            # A slurmd that ends leaves the steps of its jobs alone.
            processes.kill(self._processes_of(name))
        # Then the accounting, then what the accounting needs: munged and the database.
        for last in ([controller], base[2:], base[:2]):
            stop(last)

    def kill_node(self, name: str) -> None:
        """End a node as a crash would: at once, with its jobs' steps and all they have started."""
        self._kill(name)
        # SLURM counts in seconds, and overlooks a start in the second of a node's last answer.
        time.sleep(1)

    def freeze_controller(self, seconds: float) -> None:
        """Have the controller answer nobody for a while, as one does that waits for its disk."""
        *_, controller = self._base()
        if (pid := controller.pid()) is None:
            raise ClusterError("The controller does not run.")
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    def start_node(self, name: str) -> None:
        """Bring a node back into service; one that runs stays as it is."""
        self._boot(name)
        self._await_nodes(name)

    @property
    def _last_port(self) -> int:
        return self.port + self.nodes + self.accounting

    def _base(self) -> list[Daemon]:
        """What serves all nodes, in the order of its start."""
        environment = self._environment()
        daemons = [programs.munged(self.folder, environment)]
        if self.accounting:
            daemons.append(programs.mariadbd(self.folder, environment))
            daemons.append(programs.slurmdbd(self.folder, environment, self._last_port))
        return [*daemons, programs.slurmctld(self.folder, environment, self.port)]

    def _slurmds(self) -> dict[str, Daemon]:
        environment = self._environment()
        return {
            name: programs.slurmd(self.folder, environment, self.port + number, name)
            for number, name in enumerate(self.node_names, start=1)
        }

    def _slurmd(self, name: str) -> Daemon:
        if name not in self.node_names:
            raise ClusterError(f"No node {name}: there are {', '.join(self.node_names)}.")
        return self._slurmds()[name]

    def _daemons(self) -> list[Daemon]:
        return [*self._base(), *self._slurmds().values()]

    def _environment(self) -> dict[str, str]:
        """Ours, with nothing of a job of another SLURM, should we run in one."""
        foreign = ("SLURM", "SBATCH_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return kept | {"PATH": packages.search_path()} | self.environment

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "folder"}

    def _check_settings(self) -> None:
        """A cluster that lives cannot become another."""
        found = self.load(self.folder)._settings()
        if found != self._settings():
            differ = ", ".join(
                f"{name}={found[name]}"
                for name, value in self._settings().items()
                if found[name] != value
            )
            raise ClusterError(
                f"The cluster in {self.folder} runs with {differ}: ask for the same, or take it "
                "down first."
            )

    def _check_ports(self, ports: set[int]) -> None:
        """What is to be listened on must be free; that of a killed daemon may take a moment."""
        if not processes.wait_until(lambda: not ports & processes.listened_ports(), 2):
            taken = ", ".join(map(str, sorted(ports & processes.listened_ports())))
            raise ClusterError(
                f"Port {taken} is taken, and this cluster needs {self.port} to {self._last_port}: "
                "choose others with --port."
            )

    def _configure(self) -> None:
        if not FOLDER_NAME.fullmatch(str(self.folder)):
            raise ClusterError(
                f"{self.folder} cannot hold a cluster: SLURM wants at most 69 characters, and of "
                "these only letters, digits and . _ + - /"
            )
        settings = self._settings()
        config.write(self.folder, slurmdbd_port=self._last_port, **settings)
        (self.folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")

    def _start(self, missing: list[Daemon]) -> None:
        if not missing:
            return
        for daemon in self._base():
            if daemon in missing:
                LOG.info("starting %s", daemon.name)
                if daemon.name == "mariadbd":
                    programs.make_database(self.folder, daemon.environment)
                daemon.start()
            # Also those that have lived on: what they depend on may be new.
            daemon.wait()
        LOG.info("waiting for %d nodes", self.nodes)
        for name in self.node_names:
            self._boot(name)
        self._await_nodes(*self.node_names)

    def _boot(self, name: str) -> None:
        """Start a node that is off; no step of its jobs may have outlived it."""
        if (slurmd := self._slurmd(name)).pid() is None:
            self._kill(name)
            slurmd.start()

    def _kill(self, name: str) -> None:
        # Frozen first, all of them: nobody lives to report the end of another.
        frozen: set[int] = set()
        while found := self._processes_of(name) - frozen:
            processes.send(found, signal.SIGSTOP)
            frozen |= found
        processes.kill(frozen)

    def _await_nodes(self, *names: str) -> None:
        for name in names:
            self._slurmd(name).wait(partial(self._serves, name))

    def _serves(self, name: str) -> bool:
        """Whether a node takes jobs; one that answers but was put out of service is let in."""
        if self._slurmd(name).port not in processes.listened_ports():
            return False
        # One line for each partition, all alike.
        lines = self.run("sinfo", "--noheader", f"--nodes={name}", "--format=%T").split()
        state = lines[0] if lines else ""
        if state in OUT_OF_SERVICE:
            # It may have come back by itself just now, and then there is nothing to resume.
            with suppress(ClusterError):
                self.run("scontrol", "update", f"nodename={name}", "state=resume")
        return state in IN_SERVICE

    def _cancel_jobs(self) -> None:
        """Cancel what is queued or runs, and give it a while: a job may take care of its end."""
        LOG.info("cancelling jobs")
        try:
            if jobs := self.run("squeue", "--noheader", "--format=%A").split():
                self.run("scancel", "--quiet", *jobs)
            processes.wait_until(lambda: not self.run("squeue", "--noheader"), 8)
        except ClusterError as error:
            LOG.warning("the jobs were not cancelled: %s", error)

    def _processes_of(self, name: str) -> set[int]:
        """A node's daemon, its jobs' steps, and what these have started, even if detached."""
        spool = self._slurmd(name).workdir
        marks = {f"SLURMD_NODENAME={name}", f"SLURM_CONF={self.environment['SLURM_CONF']}"}
        everyone = processes.everyone()
        roots = {pid for pid in everyone if processes.working_folder(pid) == spool}
        marked = {pid for pid in everyone if marks <= set(processes.environment(pid))}
        return roots | marked | processes.descendants(roots | marked)
