"""What W&B's own files and a server of ours hold of a cell, after whatever happened to it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tracked_cell
from tracked_cell import CELL, RESULT, SECRET, SENT, row
from wandb_files import read_run
from wandb_server import KEY, Server, serving

from lion_sweep.machine.tracked import SCORES, step_values

PROGRAM = Path(tracked_cell.__file__)
# Killed two steps after its checkpoint, then stopped by its scheduler, then done.
ATTEMPTS = [(0, 12, "kill"), (10, 15, "stop"), (15, 20, "result")]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Without any key of whoever runs this."""
    quiet = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    tests = os.pathsep.join([str(PROGRAM.parent), os.environ.get("PYTHONPATH", "")])
    return quiet | {"HOME": str(home), "NETRC": str(home / "none"), "PYTHONPATH": tests} | more


def attempts(root: Path, steps: list[tuple[int, int, str]], **more: str) -> list[str]:
    """What each of them printed."""
    said = []
    for first, last, end in steps:
        words = [str(root), "wandb", str(first), str(last), end]
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *words],
            env=environment(root, **more),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode == 0) == (end == "result"), done.stderr
        assert "panic" not in done.stderr
        said.append(done.stdout)
    return said


def check_history(history: list[dict[str, Any]]) -> None:
    """Every step once, and what belongs to it."""
    assert [line["train/step"] for line in history] == list(range(1, 21))
    for step, line in enumerate(history, start=1):
        assert line["_step"] == step
        for key, value in row(step).items():
            assert line[f"train/{key}"] == value
        assert line["train/tokens_per_second"] == 10
        assert line["train/mfu"] == 0.1  # 100 FLOPs a second of 1000
        assert ("points/entropy" in line) == (step % 10 == 0)
    assert (history[9]["points/entropy"], history[9]["points/MRR@10"]) == (2.0, 0.5)


def check_summary(summary: dict[str, Any]) -> None:
    expected = {
        "mine/nDCG@10": 0.5,
        "untrained/mine/nDCG@10": 0.125,
        "gain/mine/nDCG@10": 0.375,
        "gain/mine/p": 0.01,
        "bm25/mine/MRR@10": 0.6,
        "efficiency/mine/L0_documents": 12.5,
        "ledger/train/spent/useful_flops": 2000,
        "stage_seconds/train": 20.0,
        "train/loss": 0.05,
        "train/step": 20,
    }
    assert {key: summary.get(key) for key in expected} == expected
    assert summary["scores"]["ncols"] == len(SCORES) and summary["scores"]["nrows"] == 2


def offline(root: Path) -> Path:
    """The one folder that there is."""
    (folder,) = root.glob("wandb/offline-run-*")
    return folder


@pytest.fixture(scope="module")
def requeued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A cell without a key that took three attempts, the last of them twice; what they printed."""
    root = tmp_path_factory.mktemp("offline")
    return root, attempts(root, [*ATTEMPTS, (20, 20, "result")])


def test_an_offline_run_is_whole_after_two_requeues(requeued: tuple[Path, list[str]]) -> None:
    root, said = requeued
    told = f"tracked offline, as no key is configured (wandb login); to upload: wandb sync {root}"
    assert all(text.startswith(f"{told}/wandb/offline-run-*\n") for text in said)
    (file,) = offline(root).glob("*.wandb")
    read = read_run(file)
    run = read["run"]
    assert (run.run_id, run.display_name, run.project) == (CELL, CELL, "lions")
    assert (run.run_group, run.job_type) == ("grid", "cell")
    assert list(run.tags) == ["model=1b", "loss=cl"]
    planned = {"steps": 20, "useful_flops": 2000}
    known = SENT | {"planned": planned}
    assert {key: value for key, value in read["config"].items() if key != "_wandb"} == known
    assert read["metrics"]["train/*"] == read["metrics"]["points/*"] == "train/useful_flops"
    check_history(read["history"])
    check_summary(read["summary"])
    (artifact,) = (one for one in read["artifacts"] if one.type == "result")
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert files.keys() == {"result.json", "history.jsonl", "points.jsonl"}
    assert json.loads(files["result.json"].read_text()) == RESULT | {"config": SENT}
    assert all(root in path.parents for path in files.values())  # nothing in the home folder


def test_a_sync_makes_one_run_of_it(requeued: tuple[Path, list[str]]) -> None:
    """In place of what a live attempt had uploaded before its network was gone."""
    root, _ = requeued
    with serving() as server:
        attempts(root / "live", [(0, 3, "kill")], **server.environment())
        program = Path(sys.executable).parent / "wandb"
        command = [str(program), "sync", str(offline(root))]
        env = environment(root, **server.environment())
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=120, cwd=root
        )
        assert done.returncode == 0, done.stderr
        assert not server.unknown
        (run,) = server.runs.values()
        check_history(run.history)
        check_summary(run.summary)
        assert server.artifacts[f"{CELL}-result"]["committed"]


def test_a_live_run_goes_on_through_requeues(tmp_path: Path) -> None:
    with serving() as server:
        said = attempts(tmp_path, ATTEMPTS, **server.environment())
        assert said == ["", "", "done\n"]
        check_live(server)
        sent = json.loads(server.files[f"/artifact/{CELL}-result/result.json"])
        assert sent == RESULT | {"config": SENT}
        everything = json.dumps([run.settings for run in server.runs.values()])
        assert SECRET not in everything and KEY not in everything
        # The result was lost, and the cell is done again: nothing is told twice.
        attempts(tmp_path, [(20, 20, "result")], **server.environment())
        check_live(server)
    for path in tmp_path.rglob("*"):  # the key is nowhere
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def check_live(server: Server) -> None:
    assert not server.unknown
    (run,) = server.runs.values()
    assert (run.name, run.project) == (CELL, "lions")
    assert run.settings[0]["groupName"] == "grid" and run.settings[0]["jobType"] == "cell"
    check_history(run.history)
    check_summary(run.summary)
    assert run.exit_codes[0] == 1 and run.exit_codes[-1] == 0


def test_a_wrong_key_is_said_and_the_cell_is_tracked_offline(tmp_path: Path) -> None:
    with serving() as server:
        (said,) = attempts(tmp_path, [(0, 20, "result")], **server.environment("w" * 40))
        assert not server.runs
    line, done = said.splitlines()
    assert line.startswith("tracked offline, as W&B cannot be had: ") and done == "done"
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in line and "w" * 40 not in line
    check_history(read_run(next(offline(tmp_path).glob("*.wandb")))["history"])


def test_no_network_is_no_cells_loss(tmp_path: Path) -> None:
    with serving() as server:
        env = server.environment()  # nobody answers there any more
    (said,) = attempts(tmp_path, [(0, 20, "result")], **env)
    assert said.startswith("tracked offline, as W&B cannot be had: ") and said.endswith("done\n")
    check_history(read_run(next(offline(tmp_path).glob("*.wandb")))["history"])


def test_a_network_that_goes_costs_a_while_and_nothing_else(tmp_path: Path) -> None:
    with serving() as server:
        env = environment(tmp_path, **server.environment())
        command = [sys.executable, str(PROGRAM), str(tmp_path), "wandb", "0", "20", "halt"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        cell = subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE, **pipes)
        assert cell.stdout.readline() == "halted\n"
    printed, complaints = cell.communicate("on\n", timeout=120)
    assert cell.returncode == 0, complaints
    assert printed.startswith("no longer tracked: ") and printed.endswith("done\n")
    assert f"tracked offline; to upload: wandb sync {tmp_path}/wandb/offline-run-*" in printed
    read = read_run(next(offline(tmp_path).glob("*.wandb")))
    check_history(read["history"])
    check_summary(read["summary"])


def test_what_a_step_does_not_say_is_left_out() -> None:
    """Neither a speed over a gap in the record, nor a share of a peak that nobody knows."""
    before = row(1)
    assert "train/tokens_per_second" not in step_values(row(3), before, 1000.0)
    values = step_values(row(2) | {"gradient_norm": None, "memory_bytes": 1 << 31}, before, None)
    assert values["train/tokens_per_second"] == 10
    assert values["train/memory_gib"] == 2
    assert not {"train/mfu", "train/gradient_norm", "train/memory_bytes"} & values.keys()
