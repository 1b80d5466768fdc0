"""Work of several processes: its order, its errors, and that no process outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from lion_sweep.errors import Interrupted, OutOfMemory
from lion_sweep.machine import interruption, workers


def own_pid(item: int) -> tuple[int, int]:
    time.sleep(0.01 * (item % 3))  # later items may be done first
    return item, os.getpid()


def refuse(item: int) -> int:
    raise ValueError(f"no {item}")


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: 2)


def test_results_come_in_order_from_other_processes(two_cores):
    found = list(workers.spread(own_pid, list(range(23))))
    assert [item for item, _ in found] == list(range(23))
    assert os.getpid() not in {pid for _, pid in found}


def test_one_item_or_one_core_is_done_here(two_cores, monkeypatch):
    assert list(workers.spread(own_pid, [7])) == [(7, os.getpid())]
    monkeypatch.setattr(workers, "cores", lambda: 1)
    assert [pid for _, pid in workers.spread(own_pid, [1, 2, 3])] == [os.getpid()] * 3


def test_an_error_is_raised_here(two_cores):
    with pytest.raises(ValueError, match="no 0"):
        list(workers.spread(refuse, [0, 1, 2]))


def test_cores_are_those_that_were_granted(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert workers.cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "10000")
    here = workers.cores()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert here == workers.cores() <= (os.cpu_count() or 1)


def leave(item: int) -> None:
    os.kill(os.getpid(), signal.SIGUSR2)  # as SLURM asks all processes of a job to stop
    if item == 3:
        os.kill(os.getpid(), signal.SIGTERM)


def test_workers_leave_asking_to_stop_to_their_parent(two_cores, monkeypatch):
    assert list(workers.spread(leave, [0, 1, 2])) == [None] * 3
    with pytest.raises(OutOfMemory, match="memory ran out"):
        list(workers.spread(leave, [0, 3]))
    monkeypatch.setattr(interruption, "requested", lambda: True)
    monkeypatch.setattr(interruption, "_received", signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM"):
        list(workers.spread(leave, [0, 3]))


PARENT = """
import time
from lion_sweep.machine import workers
workers.cores = lambda: 2
if __name__ == "__main__":
    for _ in workers.spread(time.sleep, [0, 600, 600]):
        print("begun", flush=True)
"""


def test_no_worker_outlives_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline() == b"begun\n"
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
