"""What a training writes down as it goes: a JSON object a line, whole after any kill.

`history.jsonl` has a line a step, `points.jsonl` one for every evaluation on the way. They are the
only source of what trackers show: what a run heard live, and what it missed, is the same.
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lion_sweep.files import write_text, written

HISTORY, POINTS = "history.jsonl", "points.jsonl"
# Of a step, what is no term of its loss.
STEP_KEYS = (
    "step", "loss", "learning_rate", "gradient_norm", "useful_flops", "tokens", "seconds",
    "memory_bytes",
)  # fmt: skip
Row = dict[str, Any]


def read_rows(path: Path, place: int = 0) -> Iterator[tuple[Row, int]]:
    """The lines in their order, steps ascending, each with the place in the file where it ends.

    From `place` on; none where there is no file. A line that a kill has cut off is left out, and
    so is all that stands after it.
    """
    last = 0
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(place)
        for line in file:
            place += len(line)
            try:
                row = json.loads(line)
                ascends = row["step"] > last
            except (ValueError, TypeError, KeyError, RecursionError):
                return
            if not line.endswith(b"\n") or not ascends:
                return
            last = row["step"]
            yield row, place


class Record:
    """A file of such lines, one writer's.

    What was written after step `start`, from which the training goes on, is taken back: these
    steps come again. Lines are given to the system one by one, so that all of them are there by
    the time a checkpoint is.
    """

    def __init__(self, path: Path, start: int, *, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        if writes and path.exists():
            kept = (row for row, _ in read_rows(path) if row["step"] <= start)
            write_text(path, "".join(map(_line, kept)))

    def add(self, row: Mapping[str, Any]) -> None:
        """Raises `OSError` where the folder is another process's by now."""
        if self.writes:
            # By its name every time: a folder that was taken over has another one.
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))


def _line(row: Mapping[str, Any]) -> str:
    finite = {key: _finite(value) for key, value in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """None for what is not a number: JSON has no such values."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def copy_records(source: Path, folder: Path) -> None:
    """Both files, as far as they are there."""
    for name in (HISTORY, POINTS):
        if (source / name).is_file():
            with written(folder / name) as partial:
                shutil.copyfile(source / name, partial)
