"""A report on results that other machines have left on Weights & Biases."""

import os
import re
import subprocess
import sys
from pathlib import Path

import tracked_cell
from tracked_cell import CELL
from wandb_server import Server, serving

PROGRAM = Path(tracked_cell.__file__)


def run(root: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    quiet = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    path = os.pathsep.join([str(PROGRAM.parent), os.environ.get("PYTHONPATH", "")])
    env = quiet | {"HOME": str(root), "NETRC": str(root / "none"), "PYTHONPATH": path} | more
    return subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, timeout=120
    )


def report(root: Path, source: str, **more: str) -> subprocess.CompletedProcess[str]:
    words = ["--root", str(root), "--from", source]
    return run(root, "-m", "lion_sweep.report", *words, **more)


def trained(root: Path, server: Server) -> None:
    """A cell that ended elsewhere, with a key."""
    done = run(root, str(PROGRAM), str(root), "wandb", "0", "20", "result", **server.environment())
    assert done.returncode == 0, done.stderr


def test_a_report_on_a_grid_that_ran_elsewhere(tmp_path: Path) -> None:
    here = tmp_path / "here"
    with serving() as server:
        env = server.environment()
        empty = report(here, "wandb:pride/lions", **env)
        assert empty.returncode == 2
        assert "wandb:pride/lions holds no results" in empty.stderr
        trained(tmp_path / "there", server)
        done = report(here, "wandb:pride/lions", **env)
        plain = done.stdout.replace("**", "")
        assert re.search(r"^\| sparse cl +\| +0\.5000\b", plain, re.MULTILINE), done.stderr
        assert not server.unknown
    folder = here / "remote" / "pride-lions"
    assert [path.name for path in folder.glob("cells/*")] == [CELL]
    files = {path.name for path in (folder / "cells" / CELL).iterdir()}
    assert files == {"result.json", "history.jsonl", "points.jsonl"}
    assert (folder / "reports" / "scaling" / "index.html").is_file()
    assert not list(here.glob("remote/.*"))


def test_what_stops_it(tmp_path: Path) -> None:
    wrong = report(tmp_path, "wandb:pride")
    assert wrong.returncode == 2 and "write wandb:ENTITY/PROJECT" in wrong.stderr
    with serving() as server:
        key = "w" * 40
        refused = report(tmp_path, "wandb:pride/lions", **server.environment(key))
        assert refused.returncode == 2 and "has `wandb login` been done?" in refused.stderr
        assert key not in refused.stderr + refused.stdout
