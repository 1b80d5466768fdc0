"""Work on all cores at once, in processes of their own."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing.connection import wait
from typing import TypeVar

from lion_sweep.errors import OutOfMemory
from lion_sweep.machine import interruption

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Those that this process may use: no more than OMP_NUM_THREADS, where that is set."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(here, int(os.environ.get("OMP_NUM_THREADS") or here)))


def spread(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` of every item, in their order; in this process where it has one core or one item.
    Items are taken when their turn comes near.

    `work` is a function of a module that imports quickly: every process imports it anew. What it
    raises is raised here. Processes end with this one, however it ends.
    """
    left = iter(items)
    first = list(islice(left, 2 * cores()))
    processes = min(cores(), len(first))
    if processes <= 1:
        yield from map(work, chain(first, left))
        return
    # Forked ones would inherit locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_follow) as pool:
        yield from in_order(pool, work, chain(first, left))


def in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """`work` of every item by a pool of as many workers as this process has cores, or fewer."""
    left = iter(items)
    ahead = deque(pool.submit(work, item) for item in islice(left, 2 * cores()))
    try:
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(work, item) for item in islice(left, 1))
    except BrokenProcessPool:
        if interruption.requested():  # by what has ended a worker, too
            raise interruption.stop() from None
        raise OutOfMemory(
            "A process that shares the work was ended; where nobody has ended it, memory ran out."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _follow() -> None:
    """Leave when the parent is gone, and let it alone hear what asks both to stop."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
