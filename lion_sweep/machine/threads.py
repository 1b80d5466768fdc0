"""One number of threads for all that computes in this process.

Numba's parallel kernels leave their own number behind in the pool of threads that torch sums with:
after the first of them torch would split its sums otherwise than before, and come to other last
digits. A cell's numbers would then depend on what its process had done before.
"""

import numba
import torch
from threadpoolctl import threadpool_limits


def as_torch_has() -> None:
    """Have the next parallel kernel take, and leave, as many threads as torch does."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    if torch.get_num_threads() != threads:  # the first call starts numba's own
        torch.set_num_threads(threads)


def blas_as_torch_has() -> None:
    """The same of products of numpy and scipy, which have pools of their own."""
    threadpool_limits(torch.get_num_threads(), "blas")
