"""The grid on a real SLURM: every cell once, numbers equal to those of one process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slurm

GRID = ["-m", "model=1b,3b,8b", "paradigm=sparse,dense", "loss=cl,kd,clkd"]
SMALL = ["budget=steps", "budget.steps=3", "recipe.checkpoint_every=1"]
# One core each, so that sums are split as on the laptop; on a node of its own, where all would fit
# on the first.
SPREAD = ["site.cpus=1", "+site.slurm.sbatch.exclusive=true"]
NUMBERS = ("scores", "untrained", "gain", "bm25", "sparsity", "ledger")


def test_the_grid_gives_the_numbers_of_one_process(
    slurm: Any, laptop: Any, helpers: Any, tmp_path: Path
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    code, printed = slurm.run(*GRID, *SMALL, *SPREAD, f"paths.root={there}")
    assert code == 0, printed
    assert "site: slurm (Slurmctld(primary)" in printed
    assert "submitted; this shell may go" in printed
    records = [json.loads(path.read_text()) for path in there.glob("*/*/submission.json")]
    assert len(records) == 18 + 3 + 1  # cells, one adapt per size, one teacher
    requests = {json.dumps(record["request"], sort_keys=True) for record in records}
    assert len(requests) >= 3
    # Cells that ask for the same and wait for the same are elements of one array.
    arrays = {record["job"].split("_")[0] for record in records if "_" in record["job"]}
    assert len(arrays) == 6

    code, printed = slurm.run(*GRID, *SMALL, *SPREAD, f"paths.root={there}")  # follows
    assert code == 0, printed
    nodes = {record["node"] for path in there.glob("cells/*") for record in helpers.attempts(path)}
    assert len(nodes) == 4
    folders = [*there.glob("cells/*/"), *there.glob("shared/*/")]
    assert [len(helpers.attempts(folder)) for folder in folders] == [1] * 22

    code, printed = laptop.run(*GRID, *SMALL, f"paths.root={here}")
    assert code == 0, printed
    assert "site: laptop" in printed
    ours, theirs = helpers.results(here), helpers.results(there)
    assert len(ours) == 18
    assert ours.keys() == theirs.keys()
    for name, result in ours.items():
        for numbers in NUMBERS:
            assert result[numbers] == theirs[name][numbers], (name, numbers)
    tables = []
    for root in (here, there):
        subprocess.run([sys.executable, "-m", "lion_sweep.report", "--root", root], check=True)
        text = (root / "reports" / "scaling" / "scaling.md").read_text()
        tables.append(text.split("### Details")[0])
    assert tables[0] == tables[1]

    code, rows = slurm.status(there)
    assert code == 0
    assert {row["state"] for row in rows} == {"finished"}
    assert sorted(row["id"] for row in rows if row["kind"] == "cell") == sorted(ours)
    job_count = len(list((there / "jobs").iterdir()))
    code, printed = slurm.run(*GRID, *SMALL, *SPREAD, f"paths.root={there}")
    assert code == 0
    assert printed.count("done before") == 18
    assert len(list((there / "jobs").iterdir())) == job_count


def test_two_ranks_train_and_encode_one_cell(slurm: Any, helpers: Any, tmp_path: Path) -> None:
    words = ["-m", "paradigm=dense", *SMALL, "site.devices=2", "site.stages.adapt={devices:1}"]
    words = [word.replace("site.stages.adapt=", "++site.stages.adapt=") for word in words]
    assert slurm.run(*words, f"paths.root={tmp_path}")[0] == 0
    code, printed = slurm.run(*words, f"paths.root={tmp_path}")
    assert code == 0, printed
    (result,) = helpers.results(tmp_path).values()
    assert result["device"]["count"] == 2
    for work in ("train", "encode"):
        ledger = result["ledger"][work]
        assert ledger["planned"]["useful_flops"] == ledger["spent"]["useful_flops"]
    assert len(list(tmp_path.glob("cells/*/attempts/*.json"))) == 1


def test_processes_of_one_machine(laptop: Any, helpers: Any, tmp_path: Path) -> None:
    words = ["-m", "paradigm=dense", "loss=cl,kd", *SMALL]
    code, printed = laptop.run(*words, "site.parallel=2", f"paths.root={tmp_path}/two")
    assert code == 0, printed
    assert "1b-dense-kd: finished nDCG@10" in printed
    assert laptop.run(*words, f"paths.root={tmp_path}/one")[0] == 0
    two, one = helpers.results(tmp_path / "two"), helpers.results(tmp_path / "one")
    assert {name: result["scores"] for name, result in two.items()} == {
        name: result["scores"] for name, result in one.items()
    }
    code, rows = laptop.status(tmp_path / "two")
    assert (code, {row["state"] for row in rows}) == (0, {"finished"})
