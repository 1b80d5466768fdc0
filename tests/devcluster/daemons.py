"""One daemon: started in the background, known again by its pidfile, stopped."""

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from devcluster import processes
from devcluster.errors import ClusterError


@dataclass(frozen=True)
class Daemon:
    """A program that runs in the foreground of a session of its own, for the cluster in `folder`.

    SLURM_CONF in its environment names the cluster. Together with the program's name this tells
    the daemon from another process that has come by the id in an old pidfile.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    environment: dict[str, str]
    # Succeeds when the daemon does its work.
    probe: tuple[str, ...] = ("true",)
    port: int | None = None
    workdir: Path = Path("/")

    @property
    def pidfile(self) -> Path:
        """Where the process id is kept."""
        return self.folder / "run" / f"{self.name}.pid"

    @property
    def output(self) -> Path:
        """All that the program has printed."""
        return self.folder / "log" / f"{self.name}.out"

    def pid(self) -> int | None:
        """The process id, if this daemon runs."""
        try:
            pid = int(self.pidfile.read_text())
        except (OSError, ValueError):
            return None
        ours = Path(processes.command_line(pid)[0]).name == self.command[
            0
        ] and f"SLURM_CONF={self.environment['SLURM_CONF']}" in processes.environment(pid)
        return pid if ours and processes.running(pid) else None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.pid() is not None:
            return
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                self.command,
                cwd=self.workdir,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pidfile.write_text(f"{process.pid}\n")
        # For a moment a new process has no command line by which to know it.
        processes.wait_until(lambda: self.pid() is not None or process.poll() is not None, 5)

    def wait(self, ready: Callable[[], bool] | None = None, seconds: float = 60) -> None:
        """Wait until it does its work: until its probe succeeds, or `ready` says so."""
        ready = ready or self._probe
        in_time = processes.wait_until(lambda: self.pid() is None or ready(), seconds)
        if self.pid() is None:
            raise ClusterError(f"{self.name} stopped while starting. {self._last_words()}")
        if not in_time:
            raise ClusterError(f"{self.name} is not ready after {seconds} s. {self._last_words()}")

    def _probe(self) -> bool:
        try:
            done = subprocess.run(self.probe, env=self.environment, capture_output=True, timeout=5)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _last_words(self, lines: int = 8) -> str:
        text = self.output.read_text(errors="replace").splitlines()[-lines:]
        return "\n  ".join([f"The end of {self.output}:", *text])


def stop(daemons: Iterable[Daemon], patience: float = 10) -> None:
    """Ask daemons to end, all together; kill those that have not after `patience` seconds."""
    daemons = list(daemons)
    processes.end([pid for daemon in daemons if (pid := daemon.pid()) is not None], patience)
    for daemon in daemons:
        daemon.pidfile.unlink(missing_ok=True)
