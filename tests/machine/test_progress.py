"""Progress where no terminal is: a line a minute, and a file for other processes."""

import time
from pathlib import Path

import pytest

from lion_sweep.files import read_json
from lion_sweep.machine import progress
from lion_sweep.machine.progress import Progress


def test_a_quiet_run_prints_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    shown = Progress("cell", None)
    shown.begin("corpus")
    for done in range(0, 13_000, 1000):  # ten seconds each
        shown.step(done, 20_000)
        now += 10
    assert not shown.live
    assert capsys.readouterr().err.splitlines() == [
        "cell: corpus 6,000/20,000, 100 a second, 2 min 20 s left",
        "cell: corpus 12,000/20,000, 100 a second, 1 min 20 s left",
    ]
    assert progress.QUIET_SECONDS == 60


def test_other_processes_read_where_a_cell_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now, path = 1000.0, tmp_path / "progress.json"
    monkeypatch.setattr(time, "monotonic", lambda: now)
    shown = Progress("cell", None, path)
    shown.begin("train")
    told = {"done": None, "total": None, "seconds_left": None, "rate": None, "loss": None}
    assert read_json(path).items() >= {"stage": "train", **told, "mark": ["train 0"]}.items()
    for done in (10, 11, 12):
        shown.step(done, 20, {"loss": done / 2})
        now += 0.5
    assert read_json(path)["done"] is None  # not every step is written
    shown.kept(12)
    told = {"done": 12, "total": 20, "seconds_left": 4.0, "rate": 2.0, "loss": 6.0}
    assert read_json(path).items() >= {"stage": "train", **told, "mark": ["train 12"]}.items()
    shown.end("train", 1.0, reused=False)
    shown.begin("encode")
    assert read_json(path)["loss"] is None and read_json(path)["mark"] == ["train", "encode 0"]


def test_a_log_that_grows_too_long_takes_the_place_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_BYTES", 1000)
    log = tmp_path / "log.txt"
    told = Progress("cell", log)
    for number in range(200):
        told.step(number, 200, {"loss": 1.0})
    kept = [path.read_text() for path in (tmp_path / progress.OLDER_LOG, log) if path.exists()]
    assert {path.name for path in tmp_path.iterdir()} <= {"log.txt", progress.OLDER_LOG}
    assert all(len(text) < 1100 for text in kept) and "199/200" in "".join(kept)
