"""What runs on a node: submitit unpickles a path and a token, everything else is read from there.

A pickle is what a requeued job starts from again, so nothing in it may age.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import submitit

from launch.status import read_submission
from lion_sweep.cell.tasks import Task
from lion_sweep.config.site import SiteName
from lion_sweep.errors import Interrupted, Superseded
from lion_sweep.machine import interruption
from lion_sweep.machine.environment import settle
from lion_sweep.stages.engine import Team

# What asks a job to stop.
SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
# Imports take seconds, in which these would end the process: the Python of a job begins by holding
# them back, and they come when it listens.
_HOLD_BACK = (
    "import os, signal, sys; "
    f"signal.pthread_sigmask(signal.SIG_BLOCK, {[int(number) for number in SIGNALS]}); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
DEAF = [sys.executable, "-c", _HOLD_BACK]
DEAF_PYTHON = shlex.join(DEAF)
PORT = "LION_SWEEP_PORT"  # where ranks of one machine meet
TERMINATED = 128 + signal.SIGTERM
# A job counts as failed when one of its ranks leaves before SLURM has put it back into the queue.
GRACE_SECONDS = 600
# A controller that is busy or restarts does not answer; then it is asked again.
RETRY_SECONDS = 5
# Of the time between the signal and the limit, what a step may take to reach its end.
PATIENCE_SHARE = 0.7
# A shared file system may show a node what was written before its job was submitted only now.
LAG_SECONDS, POLL_SECONDS = 30, 0.5


@dataclass
class Job:
    """A task's job; every rank of it calls this."""

    folder: Path
    token: str

    def __call__(self) -> None:
        """Do the task; when a signal comes, keep what is done and have the job queued again."""
        settle()
        environment = submitit.JobEnvironment()
        if not self.has_the_task():
            print("This job was submitted in vain: another one has the task.", flush=True)
            return
        task = Task.thaw(self.folder)
        slurm = environment.cluster == "slurm"
        leads = environment.global_rank == 0
        # A terminal sends its Ctrl-C to all ranks: they stop together, between two steps.
        interruption.listen(*SIGNALS, *([] if slurm else [signal.SIGINT]))
        if slurm and leads:
            given = environment.job_id, PATIENCE_SHARE * task.config.site.slurm.signal
            threading.Thread(target=_watch, args=given, daemon=True).start()
        import torch  # here, as launchers need not wait for all that a job imports

        from lion_sweep.cell import work

        team = Team()
        if environment.num_tasks > 1:
            _join(environment)
            from lion_sweep.stages.workshop import Ranks

            team = Ranks(cpu=work.machine() is not SiteName.gpu)
        if cores := os.environ.get("SLURM_CPUS_PER_TASK"):
            torch.set_num_threads(int(cores))  # a node may be shared, and not confine its jobs
        try:
            work.do(task, work.machine(), environment.job_id, team)
        except Interrupted as error:
            print(error, flush=True)
            if slurm and leads and interruption.received() != signal.SIGTERM:
                _requeue(environment.job_id)
            elif slurm:
                time.sleep(GRACE_SECONDS)
            sys.exit(TERMINATED)
        except Superseded as error:
            print(error, flush=True)

    def has_the_task(self) -> bool:
        """Whether the task's folder names this job; waits a while for it to do so."""
        end = time.monotonic() + LAG_SECONDS
        while not (record := read_submission(self.folder)) or record.token != self.token:
            if time.monotonic() > end:
                return False
            time.sleep(POLL_SECONDS)
        return True


def _join(environment: submitit.JobEnvironment) -> None:
    """Tell torch.distributed who this rank is; SLURM's node names need not resolve."""
    several = environment.num_nodes > 1
    job = int(environment.job_id.replace("_", "") or 0)
    os.environ.update(
        MASTER_ADDR=os.environ["SLURM_LAUNCH_NODE_IPADDR"] if several else "127.0.0.1",
        MASTER_PORT=os.environ.get(PORT) or str(20000 + job % 40000),
        RANK=str(environment.global_rank),
        LOCAL_RANK=str(environment.local_rank),
        WORLD_SIZE=str(environment.num_tasks),
    )


def _watch(job: str, patience: float) -> None:
    """Have the job queued again where no step ends in time to obey the signal."""
    while interruption.received() != signal.SIGUSR2:
        time.sleep(1)
    time.sleep(patience)
    _requeue(job)


def _requeue(job: str) -> None:
    """Back into the queue; SLURM then ends this attempt."""
    end = time.monotonic() + GRACE_SECONDS
    while True:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        if done.returncode == 0:
            return
        said = done.stderr.strip() or done.stdout.strip()
        print(f"scontrol requeue failed: {said}", flush=True)
        if time.monotonic() > end:
            sys.exit(TERMINATED)
        time.sleep(RETRY_SECONDS)


if __name__ == "__main__":  # of `launch.ranks`
    Job(Path(sys.argv[1]), sys.argv[2])()
