"""A grid on a real SLURM whose texts are read by a job that all others wait for."""

import json
import shutil
from pathlib import Path

import pytest
from support import TWIN_BUDGET, Shell, by_axes

pytestmark = pytest.mark.slurm
WAITS = "site.login_mb=0"


def test_cells_wait_for_their_texts(slurm: Shell, twin: Path, tmp_path: Path) -> None:
    words = ["-m", "model=1b,3b", "paradigm=dense", "loss=cl,kd", *TWIN_BUDGET, "site.cpus=1"]
    words += [f"paths.root={tmp_path}"]
    code, printed = slurm.run(*words, WAITS)
    assert code == 0, printed
    assert "twin: to be read by a job of its own, which cells wait for" in printed
    assert "collection: twin" not in printed
    code, printed = slurm.run(*words, WAITS)  # follows
    assert code == 0, printed
    code, rows = slurm.status(tmp_path)
    assert code == 0
    assert [row["kind"] for row in rows[:2]] == ["prepare", "adapt"]
    assert {row["state"] for row in rows} == {"finished"}
    requests = {
        path.parent.name: json.loads(path.read_text())["request"]
        for path in tmp_path.glob("shared/*/submission.json")
    }
    assert {name.split("-")[0] for name in requests} == {"prepare", "adapt", "teach"}
    # What was made there is what a command makes that reads the texts itself.
    theirs = by_axes(twin)
    for name, result in by_axes(tmp_path).items():
        assert result["scores"] == theirs[name]["scores"]
        assert result["ledger"]["train"] == theirs[name]["ledger"]["train"]
    code, printed = slurm.run(*words)  # the texts are there: nothing waits for anything
    assert code == 0 and "collection: twin" in printed and printed.count("done before") == 4


def test_cells_whose_texts_are_broken_are_blocked(slurm: Shell, tmp_path: Path) -> None:
    shutil.copytree(slurm.collection, tmp_path / "data")
    with (tmp_path / "data" / "qrels" / "train.tsv").open("a") as file:
        file.write("q1\td1\tperhaps\n")
    words = ["-m", "paradigm=dense", "loss=cl,kd", *TWIN_BUDGET, "site.memory=1", WAITS]
    words += [f"data.path={tmp_path / 'data'}", f"paths.root={tmp_path / 'root'}"]
    code, printed = slurm.run(*words)
    assert code == 0, printed
    code, printed = slurm.run(*words)
    assert code == 4, printed
    _, rows = slurm.status(tmp_path / "root")
    states = {row["kind"]: row["state"] for row in rows}
    assert states == {
        "prepare": "failed",
        "adapt": "blocked",
        "teacher": "blocked",
        "cell": "blocked",
    }
    assert {row["reason"] for row in rows if row["state"] == "blocked"} == {"prepare twin failed"}
    (failed,) = (row for row in rows if row["state"] == "failed")
    assert "train.tsv:162: the grade is" in failed["failure"]["message"]
