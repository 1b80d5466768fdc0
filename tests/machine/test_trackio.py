"""The same values in trackio's own file, where the package is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tracked_cell
from tracked_cell import CELL, row

from lion_sweep.errors import UserError
from lion_sweep.machine import trackio_run

READ = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps(SQLiteStorage.get_logs("lions", sys.argv[1])))
"""


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trackio_run, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install trackio"):
        trackio_run.check_trackio()


def test_a_run_goes_on_through_requeues(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    env = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path)}
    program = str(tracked_cell.__file__)
    env["PYTHONPATH"] = os.pathsep.join([str(Path(program).parent), env.get("PYTHONPATH", "")])
    for first, last, end in [(0, 12, "kill"), (10, 15, "stop"), (15, 20, "result")]:
        words = [str(tmp_path), "trackio", str(first), str(last), end]
        done = subprocess.run([sys.executable, program, *words], env=env, capture_output=True)
        assert (done.returncode == 0) == (end == "result"), done.stderr
    done = subprocess.run(
        [sys.executable, "-c", READ, CELL], env=env, capture_output=True, check=True
    )

    logged = json.loads(done.stdout)
    steps = [line for line in logged if "train/step" in line]
    assert [line["train/step"] for line in steps] == list(range(1, 21))
    for step, line in enumerate(steps, start=1):
        assert {f"train/{key}": value for key, value in row(step).items()}.items() <= line.items()
    (final,) = (line for line in logged if "final/mine/nDCG@10" in line)
    assert final["final/mine/nDCG@10"] == 0.5
