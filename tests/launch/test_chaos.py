"""A short slice of `make chaos`: whatever is killed, the numbers are those of a quiet run."""

import random
import sys
from pathlib import Path

import pytest
from support import Shell

from launch.devcluster import Cluster
from launch.devcluster.chaos import Chaos, differences, unleash

pytestmark = pytest.mark.slurm

GRID = ["-m", "paradigm=dense", "loss=cl,kd", "budget=steps", "budget.steps=60"]
KILLS = 4


def test_a_slice_of_chaos(laptop: Shell, cluster: Cluster, tmp_path: Path) -> None:
    quiet, stormy = tmp_path / "quiet", tmp_path / "stormy"
    grid = laptop.words(*GRID, "recipe.checkpoint_every=5", "site.cpus=1")
    code, printed = laptop.run(*grid, f"paths.root={quiet}")
    assert code == 0, printed
    chaos = Chaos(cluster, stormy, random.Random(3))
    more = ["site=slurm", "site.retry=failed", "site.attempts=1000", f"paths.root={stormy}"]
    try:
        unleash(chaos, [sys.executable, "-m", "lion_sweep", *grid, *more], KILLS, pause=5)
    finally:
        chaos.calm()
    assert len(chaos.strikes) == KILLS
    assert len(list(quiet.glob("cells/*/result.json"))) == 2
    assert differences(quiet, stormy) == []
    tries = len(list(stormy.glob("*/*/attempts/*.json")))
    assert tries > 4  # of two cells, adapt and teacher: some were tried again
