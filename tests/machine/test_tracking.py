"""What a W&B run holds, read back from the offline file by W&B's own reader."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lion_sweep.config import Config
from lion_sweep.errors import Interrupted
from lion_sweep.machine.tracking import tracker

Compose = Callable[..., Config]

SCRIPT = """
import sys
from types import SimpleNamespace as N
from lion_sweep.config.schema import TrackerKind
from lion_sweep.machine.tracking import tracker
config = N(tracking=N(kind=TrackerKind.wandb, project="p", group=None), data=N(name="d"),
           ladder=N(name="proxy"), paths=N(root=sys.argv[1]))
for cell in sys.argv[2:]:
    with tracker(config, cell, {"model": "1b", "loss": "cl"}, print) as track:
        for step in range(1, 4):
            track.log({"loss": 1.0 / step}, step)
        track.summary({"d/nDCG@10": 0.5})
"""


def test_offline_run_holds_axes_losses_and_scores(tmp_path: Path) -> None:
    quiet = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    quiet |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "1b-sparse-cl-abc"]
    subprocess.run(command, check=True, env=quiet, timeout=120)
    (run,) = tmp_path.glob("wandb/wandb/offline-run-*-1b-sparse-cl-abc/*.wandb")
    wandb = Path(sys.executable).parent / "wandb"
    done = subprocess.run(
        [str(wandb), "leet", "inspect", str(run), "--summary", "--json"],
        capture_output=True,
        text=True,
        env=quiet,
        timeout=120,
    )
    read = json.loads(done.stdout)
    assert read["config"] == {"model": "1b", "loss": "cl"}
    summary = json.dumps(read)
    assert '"d/nDCG@10": 0.5' in summary and '"train/step": 3' in summary


def test_a_key_that_cannot_be_is_said_once_and_cells_are_tracked_offline(tmp_path: Path) -> None:
    quiet = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    quiet |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "WANDB_API_KEY": "short"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "first", "second"]
    done = subprocess.run(
        command, check=True, env=quiet, timeout=120, capture_output=True, text=True
    )
    assert done.stdout.startswith("tracked offline, as W&B cannot be had: AuthenticationError: ")
    assert done.stdout.count("\n") == 1 and "40+ characters" in done.stdout
    runs = sorted(path.name for path in tmp_path.glob("wandb/wandb/offline-run-*/*.wandb"))
    assert runs == ["run-first.wandb", "run-second.wandb"]


class Wandb(SimpleNamespace):
    """In place of the package: what it was called with, in order."""

    def __init__(self, *, key: bool, fails: tuple[str, ...] = ()) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.key, self.summary, self.fails = key, {}, fails

    def login(self, prompt: bool) -> bool:
        assert not prompt
        return self.key

    def init(self, **named: Any) -> "Wandb":
        self.calls.append(("init", named))
        if named["mode"] in self.fails:
            raise RuntimeError(f"no {named['mode']} run\nat all")
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        self.calls.append(("metric", name, step_metric))

    def log(self, values: dict[str, float]) -> None:
        self.calls.append(("log", values))
        if "log" in self.fails:
            raise ConnectionError("the service is gone")

    def mark_preempting(self) -> None:
        self.calls.append(("preempting",))

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (None, [("finish", 0)]),
        (Interrupted("stopped"), [("preempting",), ("finish", 1)]),
        (ValueError("no such thing"), [("finish", 1)]),
    ],
)
def test_a_run_ends_as_its_cell_does(
    compose_cell: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
    ends: list[tuple[Any, ...]],
) -> None:
    """A run that was stopped goes on under the same id, so it must not pass for finished."""
    wandb = Wandb(key=error is None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    config = compose_cell(f"paths.root={tmp_path}", "tracking=wandb", "tracking.group=mine")
    try:
        with tracker(config, "cell-1", {"model": "1b"}, print) as track:
            track.log({"loss": 0.5, "cl": 0.25}, 7)
            track.summary({"pydoc/nDCG@10": 0.5})
            if error:
                raise error
    except (Interrupted, ValueError) as raised:
        assert raised is error
    (_, named), *calls = wandb.calls
    assert (named["id"], named["name"], named["group"]) == ("cell-1", "cell-1", "mine")
    assert (named["resume"], named["config"]) == ("allow", {"model": "1b"})
    assert named["mode"] == ("offline" if error else "online")
    logged = {"train/loss": 0.5, "train/cl": 0.25, "train/step": 7}
    assert calls == [("metric", "train/*", "train/step"), ("log", logged), *ends]
    assert wandb.summary == {"pydoc/nDCG@10": 0.5}


def test_a_mode_of_ones_own_and_no_tracker(
    compose_cell: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Wandb(key=True)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = compose_cell(f"paths.root={tmp_path}", "tracking=wandb")
    tracker(config, "cell-1", {}, print)
    assert wandb.calls[0][1]["mode"] == "offline"  # as the environment says
    assert wandb.calls[0][1]["group"] == "pydoc-proxy"
    none = compose_cell(f"paths.root={tmp_path}", "tracking=none")
    with tracker(none, "cell-1", {}, print) as track:
        assert track.run is None
    assert len([call for call in wandb.calls if call[0] == "init"]) == 1


@pytest.mark.parametrize(
    ("fails", "said", "modes", "logged"),
    [
        (("online",), ["tracked offline, as W&B cannot be had: RuntimeError: no online run"],
         ["online", "offline", "offline"], 4),
        (("online", "offline"), ["tracked offline, as W&B cannot be had: RuntimeError: no online "
         "run", *["not tracked: RuntimeError: no offline run"] * 2],
         ["online", "offline", "offline"], 0),
        (("log",), ["no longer tracked: the service is gone"] * 2, ["online"] * 2, 2),
    ],
)  # fmt: skip
def test_a_tracker_never_fails_a_cell(
    compose_cell: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: tuple[str, ...],
    said: list[str],
    modes: list[str],
    logged: int,
) -> None:
    wandb, heard = Wandb(key=True, fails=fails), []
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "")
    config = compose_cell(f"paths.root={tmp_path}", "tracking=wandb")
    for cell in ("one", "two"):
        with tracker(config, cell, {}, heard.append) as track:
            track.log({"loss": 0.5}, 1)
            track.log({"loss": 0.4}, 2)
            track.summary({"score": 0.5})
    assert heard == said
    assert [call[1]["mode"] for call in wandb.calls if call[0] == "init"] == modes
    assert len([call for call in wandb.calls if call[0] == "log"]) == logged
