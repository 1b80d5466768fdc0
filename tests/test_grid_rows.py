"""Rows of the table on a terminal, of cells that one process does one after the other."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lion_sweep.cell.tasks import WHEREABOUTS, Attempt
from lion_sweep.files import write_json
from lion_sweep.grid import Outcome, Rows
from lion_sweep.machine import board


def test_each_cell_is_where_its_files_and_the_command_say(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("old", "first", "second", "third", "kept")]
    cells: list[Any] = [
        SimpleNamespace(folder=folder, complete=folder.name in ("old", "kept"))
        for folder in folders
    ]
    result: Any = {"scores": {"twin": {"nDCG@10": 0.25}}, "untrained": {"twin": {"nDCG@10": 0.1}}}
    rows = Rows([(cell, cell.folder.name) for cell in cells])
    rows.outcomes.append(Outcome(cells[0], result, 0.0))
    assert [row.state for row in rows.now()] == [
        board.FINISHED, board.RUNNING, board.QUEUED, board.QUEUED, board.FINISHED,
    ]  # fmt: skip
    rows.outcomes.append(Outcome(cells[1], None, 4.0, MemoryError("no room")))
    Attempt.begin(folders[2], "", limit=9)
    write_json(folders[2] / WHEREABOUTS, {"stage": "train", "done": 2, "total": 5, "loss": 0.5})
    time.sleep(0.01)
    old, failed, runs, waits, kept = rows.now()
    assert (old.said, old.seconds) == ("nDCG@10 0.2500", None)
    assert (failed.state, failed.said, failed.seconds) == (board.FAILED, "MemoryError: no room", 4)
    assert (runs.stage, runs.done, runs.total, runs.loss) == ("train", 2, 5, 0.5)
    assert runs.seconds is not None and runs.seconds > 0
    assert (waits.state, kept.state) == (board.QUEUED, board.FINISHED)
    rows.outcomes += [Outcome(cell, result, 9.0) for cell in cells[2:]]
    assert [row.seconds for row in rows.now()] == [None, 4.0, 9.0, 9.0, 9.0]
    assert board.footer(rows.now()) == "4 of 5 finished, 31 s spent, 1 failed"
