"""Arrays on disk: what numpy writes, and an error that tells a full disk."""

import errno
import resource
from pathlib import Path

import numpy as np
import pytest

from lion_sweep.data import arrays


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.arange(12, dtype=np.int64).reshape(3, 4).T,
        np.empty((0, 4), np.float32),
    ],
)
def test_the_bytes_are_numpys(tmp_path: Path, array: np.ndarray) -> None:
    arrays.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", np.ascontiguousarray(array))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, unlimited[1]))
    try:
        with pytest.raises(OSError) as error:
            arrays.save(tmp_path / "a.npy", np.ones((1000, 256), np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert error.value.errno == errno.EFBIG
