"""What there is to tell of a cell: the lines of its record and its result, as values by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lion_sweep.machine.history import HISTORY, POINTS, STEP_KEYS, Row, read_rows

FLOPS = "train/useful_flops"  # the axis that cells of different sizes share
GIB = 1 << 30
Say = Callable[[str], None]


@dataclass(frozen=True)
class Tracked:
    """A cell as a tracker names it."""

    id: str
    project: str
    group: str
    root: Path  # of all outputs
    folder: Path  # of the cell
    config: Mapping[str, Any]  # every key, settled
    tags: tuple[str, ...]  # axis=value
    peak_flops: float | None = None  # a second, of all its devices; None: not known


@dataclass
class Told:
    """All there is to say when a cell ends."""

    planned: Mapping[str, int] | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    scores: list[list[Any]] = field(default_factory=list)  # rows of SCORES
    result: Mapping[str, Any] | None = None  # None: the cell has none


SCORES = ("collection", "measure", "trained", "untrained", "BM25", "gain", "p")


class Backend(Protocol):
    """Where values go."""

    @property
    def whole(self) -> bool:
        """Whether it takes everything at the end, rather than step by step."""

    def begin(self) -> int:
        """Start, or go on with, the cell's run; the last step that it holds already."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Values of a step, higher than the last one."""

    def end(self, told: Told, error: type[BaseException] | None) -> None:
        """The run is over; `Interrupted` where it goes on later."""

    def instead(self) -> "Backend | None":
        """What takes everything at the end, where this one has failed."""


class Records:
    """The lines of a folder, as values by name; those that were read are not read again."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self._before, self._place = folder, Row(step=0), 0

    def new(self, peak: float | None) -> list[tuple[int, dict[str, float]]]:
        """Steps that came to be since the last time, with the points of these steps."""
        if self.folder is None:
            return []
        rows = list(read_rows(self.folder / HISTORY, self._place))
        points = {row["step"]: row for row, _ in read_rows(self.folder / POINTS)} if rows else {}
        found = []
        for row, self._place in rows:
            values = step_values(row, self._before, peak) | point_values(points.get(row["step"]))
            found.append((row["step"], values))
            self._before = row
        return found


def step_values(row: Row, before: Row, peak: float | None) -> dict[str, float]:
    """A line of the history, and what follows from it and the line before it.

    `peak` is FLOP/s. What is not known, or no number, is left out.
    """
    values = {f"train/{key}": row.get(key) for key in ("step", *row) if key != "memory_bytes"}
    if "memory_bytes" in row:
        values["train/memory_gib"] = row["memory_bytes"] / GIB
    # After a gap, as of an attempt that wrote nothing down, it would be the speed of nobody.
    if row["step"] == before["step"] + 1:
        seconds = row["seconds"] - before.get("seconds", 0.0)
        if seconds > 0:
            tokens, flops = (row[k] - before.get(k, 0) for k in ("tokens", "useful_flops"))
            values["train/tokens_per_second"] = tokens / seconds
            values["train/mfu"] = flops / seconds / peak if peak else None
    return {key: value for key, value in values.items() if value is not None}


def point_values(row: Row | None) -> dict[str, float]:
    """A line of the points, but for what its step says itself."""
    kept = {key: v for key, v in (row or {}).items() if key not in STEP_KEYS and v is not None}
    return {f"points/{key}": value for key, value in kept.items()}


def summary(result: Mapping[str, Any]) -> dict[str, float]:
    """Every number of a result that a table of runs could be sorted by, names joined by slashes."""
    found = dict(_leaves("", result["scores"]))
    parts = "entropy", "untrained", "gain", "bm25", "efficiency", "topk", "ledger"
    for part in parts:
        found |= dict(_leaves(part, result.get(part) or {}))
    found |= dict(_leaves("evaluated", result.get("points") or {}))  # points/ are their values
    seconds = {title: stage.get("seconds") for title, stage in result["stages"].items()}
    device = {"train_seconds": result["device"].get("train_seconds")}
    return found | dict(_leaves("stage_seconds", seconds)) | dict(_leaves("", device))


def _leaves(name: str, value: Any) -> list[tuple[str, float]]:
    if isinstance(value, Mapping):
        return [
            leaf
            for key, inner in value.items()
            for leaf in _leaves(f"{name}/{key}" if name else str(key), inner)
        ]
    return [(name, value)] if isinstance(value, int | float) else []


def score_rows(result: Mapping[str, Any]) -> list[list[Any]]:
    """Rows of SCORES; None where there is no number."""

    def of(part: str, collection: str, measure: str) -> Any:
        return ((result.get(part) or {}).get(collection) or {}).get(measure)

    return [
        [
            collection,
            measure,
            value,
            of("untrained", collection, measure),
            of("bm25", collection, measure),
            gain := of("gain", collection, measure),
            None if gain is None else of("gain", collection, "p"),
        ]
        for collection, scores in result["scores"].items()
        for measure, value in scores.items()
    ]


_said: set[str] = set()


def once(say: Say, text: str) -> None:
    """The same line is said by one cell of a process."""
    if text not in _said:
        _said.add(text)
        say(text)
