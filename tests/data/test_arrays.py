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


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_parts_become_one_array(tmp_path: Path, dtype: type) -> None:
    parts = [np.arange(rows * 3).reshape(rows, 3).astype(dtype) for rows in (2, 0, 4)]
    paths = [tmp_path / f"{number}.npy" for number in range(3)]
    for path, part in zip(paths, parts, strict=True):
        arrays.save(path, part)
    arrays.join(paths, tmp_path / "whole.npy")
    np.save(tmp_path / "plain.npy", np.concatenate(parts))
    assert (tmp_path / "whole.npy").read_bytes() == (tmp_path / "plain.npy").read_bytes()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, unlimited[1]))
    try:
        with pytest.raises(OSError) as error:
            arrays.save(tmp_path / "a.npy", np.ones((1000, 256), np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert error.value.errno == errno.EFBIG
