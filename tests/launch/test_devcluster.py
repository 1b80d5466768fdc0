"""The private SLURM: it starts, runs jobs, loses and regains nodes, and leaves nothing behind."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from devcluster import Cluster, ClusterError, processes

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
NODES = 3


class Started(NamedTuple):
    """A running cluster, and what `up` printed."""

    cluster: Cluster
    printed: str


def free_ports(count: int) -> int:
    """The first of `count` ports that nobody holds, below those that the system hands out."""
    while True:
        first = random.randrange(20000, 32000 - count)
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
            return first


def up(folder: Path, port: int) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "devcluster", "up", str(folder)]
    options = [f"--nodes={NODES}", f"--port={port}", "--slurmd-timeout=5"]
    done = subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "tests"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    return done.stdout


def of_cluster(cluster: Cluster) -> set[int]:
    """The processes that live and have the cluster's configuration in their environment."""
    mark = f"SLURM_CONF={cluster.environment['SLURM_CONF']}"
    return {
        pid
        for pid in processes.everyone()
        if mark in processes.environment(pid) and processes.running(pid)
    }


def pidfiles(cluster: Cluster) -> dict[str, int]:
    """The process of each daemon."""
    run = cluster.folder / "run"
    return {path.name: int(path.read_text()) for path in run.glob("[!o]*.pid")}


def submit(cluster: Cluster, folder: Path, script: str, *options: str) -> str:
    """A job's id; its output goes to `folder`/out, later runs' at the end."""
    return cluster.run(
        "sbatch",
        "--parsable",
        "--open-mode=append",
        f"--output={folder}/out",
        *options,
        f"--wrap={script}",
    ).strip()


def states(cluster: Cluster, job: str) -> list[str]:
    """`state node` of each run of a job, the last one last."""
    columns = ("--noheader", "--duplicates", "--allocations", "--format=State%20,NodeList%20")
    table = cluster.run("sacct", *columns, f"--jobs={job}")
    return [" ".join(line.split()) for line in table.splitlines()]


def wait_for(cluster: Cluster, job: str, state: str, seconds: float = 60) -> None:
    """Until the last run of a job is in a state."""

    def reached() -> bool:
        return any(run.startswith(state) for run in states(cluster, job)[-1:])

    assert processes.wait_until(reached, seconds), states(cluster, job)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """One cluster for all tests that do not need their own."""
    folder, port = tmp_path_factory.mktemp("slurm"), free_ports(NODES + 2)
    printed = up(folder, port)
    cluster = Cluster.load(folder)
    yield Started(cluster, printed)
    cluster.down()
    assert not of_cluster(cluster)


@pytest.fixture
def cluster(started: Started) -> Cluster:
    """That cluster, with all its nodes in service."""
    started.cluster.up()
    return started.cluster


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that a test may start and ruin: one node and no accounting, up in half a second."""
    cluster = Cluster(tmp_path_factory.mktemp("own"), nodes=1, port=free_ports(2), accounting=False)
    yield cluster
    cluster.down()


def test_up_prints_the_line_for_a_shell_and_every_node_is_idle(started: Started) -> None:
    folder = started.cluster.folder
    assert started.printed == f"export SLURM_CONF={folder}/etc/slurm.conf\n"
    nodes = started.cluster.run(
        "sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%N %T"
    )
    assert nodes.split() == ["n1", "idle", "n2", "idle", "n3", "idle"]


def test_a_job_runs_and_is_accounted_for(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, "srun echo $SLURMD_NODENAME", "--nodelist=n2")
    wait_for(cluster, job, "COMPLETED")
    assert states(cluster, job) == ["COMPLETED n2"]
    assert (tmp_path / "out").read_text() == "n2\n"


def test_jobs_on_one_node_are_given_different_gpus(cluster: Cluster, tmp_path: Path) -> None:
    script = "echo $CUDA_VISIBLE_DEVICES; sleep 3"
    options = ("--gpus-per-node=2", "--nodelist=n3")
    jobs = [submit(cluster, tmp_path, script, *options) for _ in range(2)]
    for job in jobs:
        wait_for(cluster, job, "COMPLETED")
    assert sorted((tmp_path / "out").read_text().split()) == ["0,1", "2,3"]


def test_more_gpus_than_a_node_has_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="node configuration is not available"):
        submit(cluster, tmp_path, "true", "--gpus-per-node=9")


def test_a_job_that_outgrows_its_memory_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    grow = "import time; held = bytearray(300 << 20); time.sleep(60)"
    job = submit(cluster, tmp_path, f"exec {sys.executable} -c '{grow}'", "--mem=50M")
    wait_for(cluster, job, "FAILED")
    assert "exceeded memory limit" in (tmp_path / "out").read_text()


def test_a_job_on_a_killed_node_ends_on_another(cluster: Cluster, tmp_path: Path) -> None:
    # Whoever runs it first stays there for ever.
    script = '[ -n "$SLURM_RESTART_COUNT" ] || sleep 1000'
    job = submit(cluster, tmp_path, script)
    wait_for(cluster, job, "RUNNING")
    first = states(cluster, job)[0].split()[1]
    cluster.kill_node(first)
    wait_for(cluster, job, "COMPLETED")
    lost, done = states(cluster, job)
    assert lost == f"NODE_FAIL {first}"
    assert done in {f"COMPLETED {name}" for name in cluster.node_names if name != first}


def test_a_killed_node_leaves_no_process_and_comes_back(cluster: Cluster, tmp_path: Path) -> None:
    script = "setsid sleep 1000 & srun sleep 1000"
    job = submit(cluster, tmp_path, script, "--nodelist=n1")
    mark = f"SLURM_JOB_ID={job}"

    def of_job() -> list[int]:
        everyone = of_cluster(cluster)
        return [pid for pid in everyone if mark in processes.environment(pid)]

    assert processes.wait_until(lambda: len(of_job()) >= 4, 30)
    cluster.kill_node("n1")
    assert of_job() == []
    cluster.start_node("n1")
    # Nobody need have noticed that the node was away: its batch script is missed.
    requeued = processes.wait_until(lambda: states(cluster, job)[0] == "NODE_FAIL n1", 60)
    assert requeued, states(cluster, job)
    cluster.run("scancel", job)


def test_up_again_changes_nothing(cluster: Cluster, started: Started) -> None:
    before = pidfiles(cluster)
    assert up(cluster.folder, cluster.port) == started.printed
    assert pidfiles(cluster) == before


def test_up_starts_what_has_died_and_only_that(cluster: Cluster) -> None:
    before = pidfiles(cluster)
    dead = {"slurmctld.pid", "mariadbd.pid", "slurmd.n2.pid"}
    processes.kill([before[name] for name in dead])
    cluster.up()
    after = pidfiles(cluster)
    assert {name for name in before if before[name] != after[name]} == dead
    assert all(processes.running(pid) for pid in after.values())


def test_a_live_cluster_cannot_become_another(cluster: Cluster) -> None:
    other = Cluster(cluster.folder, nodes=NODES + 1, port=cluster.port, slurmd_timeout=5)
    with pytest.raises(ClusterError, match=f"runs with nodes={NODES}:"):
        other.up()


def test_an_unknown_node_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="No node n9: there are n1, n2, n3"):
        cluster.kill_node("n9")


def test_down_leaves_no_process_and_can_be_repeated(own: Cluster, tmp_path: Path) -> None:
    with own:
        submit(own, tmp_path, "trap '' TERM; touch here; sleep 1000", f"--chdir={tmp_path}")
        assert processes.wait_until((tmp_path / "here").exists, 30)
    assert of_cluster(own) == set()
    own.down()


def test_a_stopped_cluster_starts_again(own: Cluster) -> None:
    own.up()
    own.down()
    own.up()
    assert "idle" in own.run("sinfo")


def test_down_spares_a_process_that_has_got_the_id_of_a_daemon(own: Cluster) -> None:
    own.up()
    own.down()
    with subprocess.Popen(["sleep", "1000"], env=os.environ | own.environment) as other:
        (own.folder / "run" / "slurmctld.pid").write_text(f"{other.pid}\n")
        own.down()
        assert other.poll() is None
        other.kill()


def test_a_taken_port_is_refused_before_anything_starts(own: Cluster) -> None:
    with socket.socket() as taken:
        taken.bind(("", own.port + 1))
        taken.listen()
        with pytest.raises(ClusterError, match=rf"(?s)Port {own.port + 1} is taken.*--port"):
            own.up()
    assert of_cluster(own) == set()


def test_a_daemon_that_cannot_start_is_quoted(own: Cluster) -> None:
    own.up()
    own.down()
    (own.folder / "etc" / "munge.key").write_text("short")
    with pytest.raises(ClusterError, match=r"(?s)munged stopped while starting.*Keyfile"):
        own.up()
    assert of_cluster(own) == set()


def test_a_folder_that_slurm_cannot_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="cannot hold a cluster"):
        Cluster(tmp_path / "with space", port=free_ports(6)).up()


def test_a_folder_without_a_cluster_is_said_to_hold_none(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="holds no cluster"):
        Cluster.load(tmp_path)
