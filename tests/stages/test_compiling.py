"""`site.compile`: refused without a compiler, told in the facts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lion_sweep.config import Config
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.models.backbone import Backbone
from lion_sweep.stages import weights
from lion_sweep.stages.validation import check_machine
from lion_sweep.stages.workshop import Workshop


def test_a_machine_without_a_compiler_is_refused(compose_cell: Callable[..., Config]) -> None:
    import torch._inductor.config as inductor

    config = compose_cell("site.compile=true", "site.devices=1")
    with (
        inductor.patch({"cpp.cxx": ("/nowhere/g++",)}),
        pytest.raises(UserError, match=r"site\.compile=true needs a C\+\+ compiler"),
    ):
        check_machine(config, SiteName.laptop)


@pytest.mark.parametrize("asked", [False, True])
def test_facts_tell_what_compiling_took(
    compose_cell: Callable[..., Config], backbone: Backbone, tmp_path: Path, asked: bool
) -> None:
    log = tmp_path / "log.txt"
    config = compose_cell(f"site.compile={asked}", "site.devices=1")
    execution = Execution.of(config, SiteName.laptop)
    shop = Workshop(tmp_path, Progress("cell", log), execution)
    with weights.compiling(shop, "train", backbone) as facts:
        pass  # and nothing ran
    assert facts == ({"compile": {"graphs": 0, "seconds": 0.0}} if asked else {})
    assert log.is_file() == asked
    if asked:
        assert "train: compiled 0 graphs in 0.0 s" in log.read_text()
