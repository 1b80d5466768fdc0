"""What a machine is asked for before any work."""

import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from lion_sweep import preflight, site
from lion_sweep.config import Config
from lion_sweep.config_site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.evaluate import evaluate
from lion_sweep.site import LEAST_FREE_BYTES, check_output, choose

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


def command(folder: Path, name: str, body: str) -> None:
    """An executable of that name."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("ping", ["", "echo 'Slurmctld(primary) at head is DOWN'", "exit 1"])
def test_a_dead_controller_captures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ping: str
) -> None:
    """No SLURM at all, and commands that lie around where nothing answers them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if ping:
        command(tmp_path, "sbatch", "exit 1")
        command(tmp_path, "scontrol", ping)
    assert choose(SiteName.auto)[0] in (SiteName.laptop, SiteName.gpu)
    with pytest.raises(UserError, match="no SLURM controller answers"):
        choose(SiteName.slurm)


def test_a_controller_that_answers_is_taken_but_not_from_inside_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    command(tmp_path, "sbatch", "exit 1")
    command(tmp_path, "scontrol", "echo 'Slurmctld(primary) at head is UP'")
    assert choose(SiteName.auto) == (SiteName.slurm, "Slurmctld(primary) at head is UP")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert choose(SiteName.auto)[0] in (SiteName.laptop, SiteName.gpu)


LUCENE = {"sparse_engine": "exact", "bm25_engine": "bm25s"}


def fix(engine: str) -> str:
    """The end of the message where there is no Java."""
    key = f"evaluation.{engine}"
    return re.escape(f"{key}=lucene: no Java. Or use {key}={LUCENE[engine]}.")


@pytest.mark.parametrize("engine", LUCENE)
def test_lucene_without_java_is_refused_before_anything_runs(
    compose_cell: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
) -> None:
    monkeypatch.setattr(site, "lucene_available", lambda: (False, "no Java"))
    words = [f"evaluation.{engine}=lucene", "site=laptop", f"paths.root={tmp_path}"]
    with pytest.raises(UserError, match=fix(engine)):
        preflight.check([compose_cell(*words)])


@pytest.mark.parametrize("engine", LUCENE)
def test_so_it_is_where_a_checkpoint_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(site, "lucene_available", lambda: (False, "no Java"))
    with pytest.raises(UserError, match=fix(engine)):
        evaluate("anything", None, [f"evaluation.{engine}=lucene", f"paths.root={tmp_path}"])
