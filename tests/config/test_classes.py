"""What `_target_` may name: classes of this package, and of packages that the user has named."""

import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import yaml

from lion_sweep.config import Config, read_config, write_config
from lion_sweep.config.classes import class_named, made
from lion_sweep.config.secrets import refuse_secrets
from lion_sweep.config.section import plain
from lion_sweep.errors import UserError
from lion_sweep.losses.l1 import L1Regulariser

REFUSED = r"only classes of lion_sweep are made|cannot be loaded"
L1 = "lion_sweep.losses.l1.L1Regulariser"


@pytest.mark.parametrize(
    "name",
    [
        "subprocess.Popen",
        "os.system",
        "builtins.eval",
        "lion_sweep.cell.work.subprocess.Popen",  # another's, by a way through a module of ours
        "lion_sweep_evil.Class",
        "",
        ".Class",
        "collections.OrderedDict",
    ],
)
def test_classes_of_others_are_refused_before_they_are_made(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run: list[Any] = []
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda *words, **more: run.append(words))
    monkeypatch.delenv("LION_SWEEP_PACKAGES", raising=False)
    value = {"_target_": name, "args": ["touch", str(tmp_path / "here")]}
    for asked in (value, {"_target_": L1, "query_weight": value, "passage_weight": 1.0}):
        with pytest.raises(UserError, match=REFUSED):
            made(asked)
    inner = {"_target_": L1, "query_weight": [{"deep": [value]}], "passage_weight": 1.0}
    with pytest.raises(UserError, match=REFUSED):
        made(inner)
    assert run == [] and not list(tmp_path.iterdir())


def test_functions_are_no_classes() -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        made({"_target_": "lion_sweep.stages.engine.remove", "folder": "/nowhere"})


def test_packages_that_the_user_names_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert class_named(L1) is L1Regulariser
    with pytest.raises(UserError, match="set LION_SWEEP_PACKAGES=collections, if you trust"):
        class_named("collections.OrderedDict")
    monkeypatch.setenv("LION_SWEEP_PACKAGES", "toys, collections")
    assert class_named("collections.OrderedDict") is OrderedDict
    assert made({"_target_": "collections.OrderedDict", "a": 1}) == {"a": 1}


def test_a_configuration_from_elsewhere_reads_no_environment(
    compose_cell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-0123456789")
    write_config(compose_cell(), tmp_path, {"id": "x", "axes": {}})
    path = tmp_path / "config.yaml"
    told = yaml.safe_load(path.read_text())
    assert isinstance(read_config(tmp_path), Config)
    told["tracking"]["project"] = "${oc.env:HF_TOKEN}"
    path.write_text(yaml.safe_dump(told))
    with pytest.raises(UserError, match=r"is not as lion_sweep writes it"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", ["a: [", "- 1", "!!python/object/apply:os.system [ls]", "\0", ""])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("site.slurm.setup=['export WANDB_API_KEY=0123456789abcdef']", r"site.slurm.setup\[0\]"),
        ("tracking.project=planted-0123456789", "tracking.project holds the value of MY_TOKEN"),
        ("data.path=/data/hf_abcdefghijklmnopqrstuvwx", "data.path holds what looks like a secret"),
    ],
)
def test_secrets_are_refused_by_their_keys(
    compose_cell: Any, monkeypatch: pytest.MonkeyPatch, override: str, says: str
) -> None:
    monkeypatch.setenv("MY_TOKEN", "planted-0123456789")
    refuse_secrets(compose_cell())
    config = compose_cell(override)
    with pytest.raises(UserError, match=says) as refused:
        refuse_secrets(config)
    assert "0123456789" not in str(refused.value)
    assert plain(config)
