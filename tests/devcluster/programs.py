"""The daemons that make up a cluster: their command lines, and how each shows that it is ready."""

import subprocess
from pathlib import Path

from devcluster import packages
from devcluster.daemons import Daemon
from devcluster.errors import ClusterError


def munged(folder: Path, environment: dict[str, str]) -> Daemon:
    """Authentication: every message between the others carries its stamp."""
    socket = f"--socket={folder}/run/munge.sock"
    command = (
        "munged",
        "--foreground",
        # It would refuse a folder below one that anybody may write to, such as /tmp.
        "--force",
        "--num-threads=2",
        socket,
        f"--key-file={folder}/etc/munge.key",
        f"--pid-file={folder}/run/own.munged.pid",
        f"--seed-file={folder}/state/munged.seed",
    )
    return Daemon("munged", folder, command, environment, probe=("munge", "--no-input", socket))


def mariadbd(folder: Path, environment: dict[str, str]) -> Daemon:
    """The database of the accounting, reached only through a socket that admits its owner."""
    socket = f"--socket={folder}/run/mysql.sock"
    command = (
        "mariadbd",
        "--no-defaults",
        f"--user={packages.user()}",
        f"--datadir={folder}/mysql",
        socket,
        f"--pid-file={folder}/run/own.mariadbd.pid",
        "--skip-networking",
        # Small and quick: what a power cut would lose is of no use afterwards.
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=16M",
        "--innodb-flush-log-at-trx-commit=0",
        # slurmdbd asks for it.
        "--innodb-lock-wait-timeout=900",
    )
    probe = ("mariadb-admin", "--no-defaults", socket, "ping")
    return Daemon("mariadbd", folder, command, environment, probe)


def make_database(folder: Path, environment: dict[str, str]) -> None:
    """Make the database's folder, once; a half-made one is thrown away by its name."""
    if (folder / "mysql").is_dir():
        return
    partial = folder / "mysql.partial"
    subprocess.run(["rm", "-rf", str(partial)], check=True)
    command = (
        "mariadb-install-db",
        "--no-defaults",
        f"--user={packages.user()}",
        f"--datadir={partial}",
        "--auth-root-authentication-method=socket",
        f"--auth-root-socket-user={packages.user()}",
        "--skip-test-db",
        "--skip-name-resolve",
    )
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"mariadb-install-db failed:\n{(done.stdout + done.stderr)[-2000:]}")
    partial.rename(folder / "mysql")


def slurmdbd(folder: Path, environment: dict[str, str], port: int) -> Daemon:
    """The accounting, which sacct asks."""
    # SLURM has no option for the database's socket; the library it is built on reads this.
    environment = environment | {"MYSQL_UNIX_PORT": f"{folder}/run/mysql.sock"}
    probe = ("sacctmgr", "--noheader", "list", "cluster")
    return Daemon("slurmdbd", folder, ("slurmdbd", "-D"), environment, probe, port)


def slurmctld(folder: Path, environment: dict[str, str], port: int) -> Daemon:
    """The controller: queue and scheduler."""
    probe = ("scontrol", "ping")
    return Daemon("slurmctld", folder, ("slurmctld", "-D"), environment, probe, port)


def slurmd(folder: Path, environment: dict[str, str], port: int, node: str) -> Daemon:
    """One node.

    The steps of its jobs inherit its working folder, which tells whose they are. With -b each
    start counts as one of the machine: what ran there before is lost, and requeued at once.
    """
    return Daemon(
        f"slurmd.{node}",
        folder,
        ("slurmd", "-D", "-b", "-N", node),
        environment,
        port=port,
        workdir=folder / "spool" / node,
    )
