"""Debian's packages of SLURM, munge and MariaDB: what is missing, and how it comes."""

import logging
import os
import pwd
import shutil
import subprocess

from devcluster.errors import ClusterError

LOG = logging.getLogger(__name__)

# The programs that are run, and the package that brings each.
ALWAYS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sinfo": "slurm-client", "munged": "munge"}
ACCOUNTING = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}


def search_path() -> str:
    """PATH with the folders of the daemons, which an ordinary user's PATH may lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def user() -> str:
    """Who runs this process, and so the daemons; USER may name somebody else."""
    return pwd.getpwuid(os.geteuid()).pw_name


def missing(accounting: bool) -> list[str]:
    """The packages whose programs are not found."""
    programs = ALWAYS | (ACCOUNTING if accounting else {})
    return [
        package
        for program, package in programs.items()
        if shutil.which(program, path=search_path()) is None
    ]


def ensure(accounting: bool) -> None:
    """Install what is missing as root; ask for it otherwise."""
    packages = missing(accounting)
    if not packages:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(
            f"{', '.join(packages)} not installed. On Debian or Ubuntu, type:\n"
            f"  sudo apt-get update && sudo {' '.join(install)}"
        )
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], install):
        LOG.info(" ".join(command))
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")
