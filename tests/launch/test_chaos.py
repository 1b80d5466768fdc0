"""A short slice of `make chaos`: whatever is killed, the numbers are those of a quiet run."""

import random
import sys
from pathlib import Path

import pytest
from devcluster import Cluster
from devcluster.chaos import Chaos, differences, unleash
from support import Shell

pytestmark = pytest.mark.slurm

GRID = ["-m", "paradigm=dense,sparse", "loss=drawn_out", "budget=steps", "budget.steps=40"]
KILLS = 3


def test_a_slice_of_chaos(
    laptop: Shell,
    cluster: Cluster,
    drawn_out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quiet, stormy = tmp_path / "quiet", tmp_path / "stormy"
    monkeypatch.setenv("PYTHONPATH", str(drawn_out))
    grid = ["--config-dir", str(drawn_out), *GRID, "recipe.checkpoint_every=5", "site.cpus=1"]
    grid = laptop.words(*grid)
    code, printed = laptop.run(*grid, f"paths.root={quiet}")
    assert code == 0, printed
    monkeypatch.setenv("PAUSE_SECONDS", "0.3")  # so that cells outlive the kills
    chaos = Chaos(cluster, stormy, random.Random(3))
    more = ["site=slurm", "site.retry=failed", "site.attempts=1000", f"paths.root={stormy}"]
    try:
        unleash(chaos, [sys.executable, "-m", "lion_sweep", *grid, *more], KILLS, pause=3)
    finally:
        chaos.calm()
    assert len(chaos.strikes) == KILLS
    assert len(list(quiet.glob("cells/*/result.json"))) == 2
    assert differences(quiet, stormy) == []
    tries = len(list(stormy.glob("*/*/attempts/*.json")))
    assert tries > 3  # of two cells and what they share: some were tried again
