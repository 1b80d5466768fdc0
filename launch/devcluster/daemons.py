"""One daemon: started in the background, known by its pidfile, stopped."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from launch.devcluster import processes
from launch.devcluster.errors import ClusterError


@dataclass(frozen=True)
class Daemon:
    """A program that runs in the foreground of its own session, for the cluster in `folder`.

    Its environment names the folder, in `SLURM_CONF`: with its program's name, that tells it from
    another process that has got the id in an old pidfile.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    ready: Callable[[], bool] = field(repr=False)
    port: int | None = None
    workdir: Path = Path("/")

    @property
    def pidfile(self) -> Path:
        """Where the process id is kept."""
        return self.folder / "run" / f"{self.name}.pid"

    @property
    def output(self) -> Path:
        """What the program has printed."""
        return self.folder / "log" / f"{self.name}.out"

    def pid(self) -> int | None:
        """The process id, if this daemon runs."""
        try:
            pid = int(self.pidfile.read_text())
        except (OSError, ValueError):
            return None
        ours = (
            Path(processes.command_line(pid)[0]).name == self.command[0]
            and f"SLURM_CONF={self.environment['SLURM_CONF']}" in processes.environment(pid)
        )
        return pid if ours and processes.running(pid) else None

    def start(self) -> bool:
        """Start it, unless it runs; whether it had to be started."""
        if self.pid() is not None:
            return False
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
        return True

    def wait(self, seconds: float = 30) -> None:
        """Wait until it does its work."""

        def settled() -> bool:
            return self.pid() is None or self.ready()

        in_time = processes.wait_until(settled, seconds)
        if self.pid() is None:
            raise ClusterError(f"{self.name} stopped while starting. {self._last_words()}")
        if not in_time:
            raise ClusterError(f"{self.name} is not ready after {seconds} s. {self._last_words()}")

    def _last_words(self, lines: int = 8) -> str:
        text = self.output.read_text(errors="replace").splitlines()[-lines:]
        return "\n  ".join([f"The end of {self.output}:", *text])


def stop_all(daemons: list[Daemon], patience: float = 10) -> None:
    """Stop daemons together."""
    processes.end([pid for daemon in daemons if (pid := daemon.pid()) is not None], patience)
    for daemon in daemons:
        daemon.pidfile.unlink(missing_ok=True)
