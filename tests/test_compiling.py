"""`site.compile`: refused without a compiler, part of no identity, told in the facts."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lion_sweep import site
from lion_sweep.blueprint import Blueprint
from lion_sweep.cell import specification
from lion_sweep.config import Config
from lion_sweep.config_site import SiteName
from lion_sweep.devices import Device
from lion_sweep.errors import UserError
from lion_sweep.ledger import DecoderShape
from lion_sweep.models.backbone import Backbone
from lion_sweep.pipeline import Pipeline
from lion_sweep.plan.training import TrainingPlan
from lion_sweep.prepare import Workshop
from lion_sweep.progress import Progress

SHAPE = DecoderShape(8, 12, 2, 4, 2, 2, 30)


def test_a_machine_without_a_compiler_is_refused(compose_cell: Callable[..., Config]) -> None:
    import torch._inductor.config as inductor

    config = compose_cell("site.compile=true", "site.devices=1")
    with (
        inductor.patch({"cpp.cxx": ("/nowhere/g++",)}),
        pytest.raises(UserError, match=r"site\.compile=true needs a C\+\+ compiler"),
    ):
        site.check(config, SiteName.laptop)


def test_compiling_changes_no_identity_but_a_measured_step_time(
    compose_cell: Callable[..., Config],
) -> None:
    plain, compiling = compose_cell(), compose_cell("site.compile=true")
    assert specification(compiling) == specification(plain)
    blueprint = Blueprint("llama", "", "", SHAPE, True, "", Path("q"), Path("p"))
    counts, device = SimpleNamespace(tokens=64), Device("cpu", None, None, gpu=False)
    keys = [
        TrainingPlan(config, blueprint, device, 1, counts, caches=False).calibration()
        for config in (plain, compiling)
    ]
    assert keys[0] != keys[1]
    assert keys[0] | {"compile": True} == keys[1]


@pytest.mark.parametrize("asked", [False, True])
def test_facts_tell_what_compiling_took(
    compose_cell: Callable[..., Config], backbone: Backbone, tmp_path: Path, asked: bool
) -> None:
    log = tmp_path / "log.txt"
    config, progress = compose_cell(f"site.compile={asked}"), Progress("cell", log)
    stages = SimpleNamespace(config=config, workshop=Workshop(config, progress))
    with Pipeline.compiled(stages, "train", backbone) as facts:
        pass  # and nothing ran
    assert facts == ({"compile": {"graphs": 0, "seconds": 0.0}} if asked else {})
    assert log.is_file() == asked
    if asked:
        assert "train: compiled 0 graphs in 0.0 s" in log.read_text()
