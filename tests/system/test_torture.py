"""A few minutes of `make torture`: nothing is lost, done twice, or comes out otherwise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS, MINUTES = 50, 3


def test_cells_under_faults_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    report = tmp_path / "torture.json"
    words = ["--faults", str(FAULTS), "--minutes", str(MINUTES), "--seed", "7"]
    done = subprocess.run(
        [sys.executable, "-m", "torture", str(tmp_path), *words, "--report", str(report)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    told = json.loads(report.read_text()) if report.exists() else {"told": [done.stderr[-3000:]]}
    assert told["told"] == []
    assert (told["lost"], told["duplicated"], told["differing"], told["odd"]) == (0, 0, 0, 0)
    assert told["lives"] >= 2 and sum(told["faults"].values()) == 2 * told["faults"]["all"] > 0


@pytest.mark.parametrize("planted", ["the-rate-begins-again", "nobody-waits"])
def test_a_fault_of_our_own_is_noticed(tmp_path: Path, planted: str) -> None:
    words = ["--faults", "200", "--minutes", str(MINUTES), "--planted", planted]
    done = subprocess.run(
        [sys.executable, "-m", "torture", str(tmp_path), *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"{planted}: after ")
