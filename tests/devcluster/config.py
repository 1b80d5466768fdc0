"""The text of every configuration file, and where the files of a cluster lie."""

import re
import secrets
import socket
import subprocess
from pathlib import Path
from string import Template

from devcluster import packages

GPUS_PER_NODE = 8

# Reasons that the names do not give:
# - FirstJobId: ids that start at 1 in every cluster find the files of another cluster's jobs.
# - cred_expire: a requeued job waits for it. It must outlast KillWait and the killing itself, or
#   the job comes back to a node where its old step still lives, and the node is drained.
# - MessageTimeout: two of them pass, beside SlurmdTimeout, before a silent node is down.
# - ReturnToService=2: a node that crashed comes back when it answers again, even where it was
#   restarted before anybody had noticed.
# - DefMemPerCPU: without it, with CR_Core_Memory, each job takes all the memory of its node.
# - JobAcctGather...: with no cgroups, this is what kills a job that outgrows its memory. UsePss
#   counts what its processes share once, as cgroups would.
# - AccountingStoragePass: it names munge's socket, as AuthInfo does for everything else.
SLURM = Template("""\
ClusterName=devcluster
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.sock,cred_expire=8
FirstJobId=$first_job_id

StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/run/own.slurmctld.pid
SlurmdPidFile=$folder/run/own.slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
MailProg=/bin/true

ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
SlurmdTimeout=$slurmd_timeout
MessageTimeout=$message_timeout
ReturnToService=2
JobRequeue=1
KillWait=2
OverTimeLimit=0

SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=4000
GresTypes=gpu
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0,\
batch_sched_delay=0,requeue_delay=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
$options
NodeName=n[1-$nodes] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[$first_node-$last_node] \
CPUs=64 RealMemory=1000000 Gres=gpu:$gpus State=UNKNOWN

PartitionName=DEFAULT Nodes=ALL MaxTime=1-00:00:00 DefaultTime=10 PreemptMode=OFF State=UP
PartitionName=gpu     PriorityTier=10 Default=YES
PartitionName=preempt PriorityTier=1 PreemptMode=REQUEUE GraceTime=3
PartitionName=urgent  PriorityTier=100
PartitionName=short   PriorityTier=10 Nodes=n1 MaxTime=10
""")

ACCOUNTING = Template("""
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$slurmdbd_port
AccountingStoragePass=$folder/run/munge.sock
AccountingStorageTRES=gres/gpu
""")

SIGNAL_ON_PREEMPT = "SlurmctldParameters=preempt_send_user_signal\n"

# No password: MariaDB knows its user by the owner of the process at the other end of its socket.
SLURMDBD = Template("""\
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.sock
DbdHost=localhost
DbdPort=$slurmdbd_port
SlurmUser=$user
PidFile=$folder/run/own.slurmdbd.pid
LogFile=$folder/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$user
StorageLoc=slurm_acct_db
""")

GRES = Template("NodeName=n[1-$nodes] Name=gpu File=$folder/gpus/gpu[0-$last_gpu]\n")


def write(
    folder: Path,
    *,
    nodes: int,
    port: int,
    slurmdbd_port: int,
    accounting: bool,
    slurmd_timeout: int,
    signal_on_preempt: bool,
) -> None:
    """Make the folders, the key, the GPUs and the files that the daemons read."""
    names = ["etc", "gpus", "log", "run", "state"]
    for name in [*names, *(f"spool/n{number}" for number in range(1, nodes + 1))]:
        (folder / name).mkdir(parents=True, exist_ok=True)
    values: dict[str, object] = {
        "folder": folder,
        "host": socket.gethostname().split(".")[0],
        "user": packages.user(),
        "port": port,
        "slurmdbd_port": slurmdbd_port,
        "first_node": port + 1,
        "last_node": port + nodes,
        "nodes": nodes,
        "gpus": GPUS_PER_NODE,
        "last_gpu": GPUS_PER_NODE - 1,
        "slurmd_timeout": slurmd_timeout,
        "message_timeout": min(10, slurmd_timeout),
        # SLURM's own highest id is 67 million; a cluster that has run goes on from its last one.
        "first_job_id": 10_000 + secrets.randbelow(60_000_000),
    }
    options = ACCOUNTING.substitute(values) if accounting else ""
    values["options"] = options + (SIGNAL_ON_PREEMPT if signal_on_preempt else "")
    _write(folder / "etc" / "slurm.conf", SLURM.substitute(values))
    _write(folder / "etc" / "gres.conf", GRES.substitute(values))
    _write(folder / "etc" / "cgroup.conf", f"CgroupPlugin={_cgroup_plugin()}\n")
    if accounting:
        _write(folder / "etc" / "slurmdbd.conf", SLURMDBD.substitute(values), mode=0o600)
    key = folder / "etc" / "munge.key"
    if not key.exists():
        _write(key, secrets.token_bytes(1024), mode=0o600)
    # SLURM wants character devices, only looks at them, and follows links.
    for number in range(GPUS_PER_NODE):
        gpu = folder / "gpus" / f"gpu{number}"
        if not gpu.is_symlink():
            gpu.symlink_to("/dev/null")


def _cgroup_plugin() -> str:
    """The plugin that asks nothing of the machine: slurmd loads one even where nothing uses it.

    Left to choose, it takes that for version 2 on most machines, and stops where systemd does not
    lend it a part of the tree, as in containers.
    """
    environment = {"PATH": packages.search_path()}
    version = subprocess.run(["slurmd", "-V"], env=environment, capture_output=True, text=True)
    found = re.search(r"(\d+)\.(\d+)", version.stdout)
    known = found is not None and (int(found[1]), int(found[2])) >= (24, 5)
    return "disabled" if known else "cgroup/v1"


def _write(path: Path, text: str | bytes, mode: int = 0o644) -> None:
    """Write a file that never was more readable than `mode` says."""
    path.unlink(missing_ok=True)
    path.touch(mode)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
