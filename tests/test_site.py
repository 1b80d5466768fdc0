"""What a machine is asked for before any work."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from lion_sweep.errors import UserError
from lion_sweep.site import LEAST_FREE_BYTES, check_output

Usage = namedtuple("Usage", ["total", "used", "free"])


def test_an_output_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        check_output(tmp_path / "file" / "outputs")


def test_a_nearly_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage(10 << 30, 9 << 30, LEAST_FREE_BYTES - (1 << 20))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"1023 MiB left; at least 1024 MiB"):
        check_output(tmp_path)
