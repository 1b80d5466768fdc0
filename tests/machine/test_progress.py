"""Progress where no terminal is: a line a minute, and nothing more."""

import time

import pytest

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
