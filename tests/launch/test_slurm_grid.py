"""The grid on a real SLURM: every cell once, numbers equal to those of one process."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import GRID, TWIN_BUDGET, Shell, attempts, by_axes, results, wait_for

from lion_sweep.search.parts import Stored

pytestmark = pytest.mark.slurm

# One core each, so that sums are split as on the laptop; on a node of its own, where all would fit
# on the first.
SPREAD = ["site.cpus=1", "+site.slurm.sbatch.exclusive=true"]
NUMBERS = ("scores", "untrained", "gain", "bm25", "ledger")


def test_the_grid_gives_the_numbers_of_one_process(
    slurm: Shell, twin: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    grid = [*GRID, *TWIN_BUDGET, *SPREAD, f"paths.root={there}"]
    code, printed = slurm.run(*grid)
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

    code, printed = slurm.run(*grid)  # follows
    assert code == 0, printed
    nodes = {record["node"] for path in there.glob("cells/*") for record in attempts(path)}
    assert len(nodes) == 4
    folders = [*there.glob("cells/*/"), *there.glob("shared/*/")]
    assert [len(attempts(folder)) for folder in folders] == [1] * 22

    ours, theirs = results(twin), results(there)
    assert len(ours) == 18
    assert ours.keys() == theirs.keys()
    for name, result in ours.items():
        for numbers in NUMBERS:
            assert result[numbers] == theirs[name][numbers], (name, numbers)
    assert report(twin / "cells", tmp_path / "a") == report(there / "cells", tmp_path / "b")

    code, rows = slurm.status(there)
    assert code == 0
    assert {row["state"] for row in rows} == {"finished"}
    assert sorted(row["id"] for row in rows if row["kind"] == "cell") == sorted(ours)
    job_count = len(list((there / "jobs").iterdir()))
    code, printed = slurm.run(*grid)
    assert code == 0
    assert printed.count("done before") == 18
    assert len(list((there / "jobs").iterdir())) == job_count


def report(cells: Path, root: Path) -> str:
    """The scaling tables of these cells, without what says when and where they ran."""
    shutil.copytree(cells, root / "cells")
    subprocess.run([sys.executable, "-m", "lion_sweep.report", "--root", root], check=True)
    return (root / "reports" / "scaling" / "scaling.md").read_text().split("### Details")[0]


def test_two_jobs_of_two_ranks_encode_what_one_process_does(
    slurm: Shell, laptop: Shell, tmp_path: Path
) -> None:
    words = ["paradigm=dense", "budget=steps", "budget.steps=3", "evaluation.batch_tokens=512"]
    words += [f"paths.root={tmp_path}"]
    more = ["site.devices=2", "++site.stages.adapt={devices:1}"]
    more += ["site.encode_jobs=2", "site.shard_tokens=1000"]
    code, printed = slurm.run(*words, *more)
    assert code == 0, printed
    (shared,) = wait_for(lambda: results(tmp_path).values(), "the result")
    assert shared["device"]["count"] == 2
    for work in ("train", "encode"):
        ledger = shared["ledger"][work]
        assert ledger["planned"]["useful_flops"] == ledger["spent"]["useful_flops"]
    # Both jobs together, trained and untrained: the cell's own job has found all shards.
    done = [json.loads(path.read_text()) for path in tmp_path.glob("stages/encoding-*/done.json")]
    tokens = tmp_path / "stages" / shared["stages"]["passage tokens"]["folder"] / "count.npy"
    expected = 2 * (np.load(tokens).sum() // 1000)
    assert sum(job["facts"]["shards"] for job in done) == expected >= 10
    assert not list(tmp_path.glob("stages/*shard-*"))

    code, rows = slurm.status(tmp_path)
    assert (code, {row["state"] for row in rows}) == (0, {"finished"})
    assert [row["kind"] for row in rows] == ["adapt", "train", "encode", "encode", "cell"]
    assert {row["attempts"] for row in rows} == {1}
    train, first, second, cell = (row["job"] for row in rows[1:])
    assert int(train) < int(first.removesuffix("_0")) < int(cell)
    assert second == first.replace("_0", "_1")

    # The same weights again, encoded by one process.
    shutil.rmtree(tmp_path / "cells")
    vectors = {}
    for folder in tmp_path.glob("stages/encode-*"):
        vectors[folder.name] = Stored(folder / "vectors").all().tobytes()
        shutil.rmtree(folder)
    code, printed = laptop.run(*words)
    assert code == 0, printed
    (alone,) = results(tmp_path).values()
    for numbers in ("id", "device", *NUMBERS):
        assert alone[numbers] == shared[numbers], numbers
    assert alone["stages"].keys() == shared["stages"].keys()
    assert len(vectors) == 4
    for name, found in vectors.items():
        assert Stored(tmp_path / "stages" / name / "vectors").all().tobytes() == found


def test_processes_of_one_machine(laptop: Shell, twin: Path, tmp_path: Path) -> None:
    words = ["-m", "paradigm=dense", "loss=cl,kd", *TWIN_BUDGET]
    code, printed = laptop.run(*words, "site.parallel=2", f"paths.root={tmp_path}")
    assert code == 0, printed
    assert "1b-dense-kd: finished nDCG@10" in printed
    two, one = by_axes(tmp_path), by_axes(twin)
    assert {name: result["scores"] for name, result in two.items()} == {
        name: one[name]["scores"] for name in ("1b-dense-cl", "1b-dense-kd")
    }
    code, rows = laptop.status(tmp_path)
    assert (code, {row["state"] for row in rows}) == (0, {"finished"})
