"""Read the cells of a sweep: their results, and which were started."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from lion_sweep.cell import result

AXES = {
    "model": ("1b", "3b", "8b"),
    "paradigm": ("sparse", "dense"),
    "loss": ("cl", "kd", "clkd"),
}
LADDERS = ("proxy", "full")
MEASURES = ("nDCG@10", "MRR@10", "Recall@100")
LOSS_NAMES = {"cl": "CL", "kd": "KD", "clkd": "CL+KD"}


@dataclass(frozen=True)
class Cell:
    """One point of the grid. Raises ValueError for a value the study does not have."""

    model: str
    paradigm: str
    loss: str

    def __post_init__(self) -> None:
        for axis, known in AXES.items():
            if (value := getattr(self, axis)) not in known:
                raise ValueError(f"{axis}={value} is unknown, use one of {', '.join(known)}")

    @property
    def row(self) -> str:
        """Paradigm and loss as a table row names them, such as 'sparse CL+KD'."""
        return f"{self.paradigm} {LOSS_NAMES[self.loss]}"

    def __str__(self) -> str:
        return f"{self.row} {self.model}"


@dataclass(frozen=True)
class CellResult:
    """The fields of a finished cell's result.json, its folder and when it changed (Unix s)."""

    id: str
    axes: Cell
    ladder: str
    seed: int
    data: str
    scores: dict[str, dict[str, float | None]]
    backbone: dict[str, Any]
    teacher: dict[str, Any] | None
    untrained: dict[str, Any]
    gain: dict[str, Any]
    bm25: dict[str, Any]
    efficiency: dict[str, Any]
    collections: dict[str, Any]
    ledger: dict[str, Any]
    stages: dict[str, Any]
    versions: dict[str, Any]
    device: dict[str, Any]
    folder: Path
    modified: float

    def checksum(self, collection: str) -> str | None:
        """Of the content that the cell was scored on; None where it is not told."""
        told = self.collections.get(collection)
        return told.get("checksum") if isinstance(told, dict) else None

    def stage_folder(self, stage: str) -> str:
        """Name of the folder a stage's result lies in; the cell's own id where it is not told."""
        told = self.stages.get(stage)
        return str(told.get("folder", self.id) if isinstance(told, dict) else self.id)


def grid(
    model: Sequence[str] = AXES["model"],
    paradigm: Sequence[str] = AXES["paradigm"],
    loss: Sequence[str] = AXES["loss"],
) -> list[Cell]:
    """All combinations of the given axis values; raises ValueError for an unknown value."""
    return [Cell(m, p, k) for p, k, m in itertools.product(paradigm, loss, model)]


def number(record: Mapping[str, Any], *keys: str) -> float | None:
    """The number under nested keys; None where a key is absent or holds no number."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_result(path: Path) -> CellResult:
    """Read one result.json; raises ValueError naming the file (and the line of a JSON error)."""
    record = result.read_result(path)
    if record["ladder"] not in LADDERS:
        raise ValueError(f"{path}: ladder '{record['ladder']}' is not one of {', '.join(LADDERS)}")
    try:
        axes = _cell(record["axes"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    own = {entry.name for entry in fields(CellResult)} - {"axes", "folder", "modified"}
    told: dict[str, Any] = {key: value for key, value in record.items() if key in own}
    return CellResult(axes=axes, folder=path.parent, modified=path.stat().st_mtime, **told)


def _cell(axes: Mapping[str, Any]) -> Cell:
    return Cell(*(str(axes.get(axis)) for axis in AXES))


def collect(root: Path) -> list[CellResult]:
    """Every readable `<root>/cells/<id>/result.json`; names each malformed one on stderr."""
    results = []
    for path in sorted(root.glob(f"cells/*/{result.RESULT}")):
        try:
            results.append(read_result(path))
        except ValueError as error:
            print(f"{error}; the cell counts as a hole.", file=sys.stderr)
    return results


def started(root: Path) -> set[tuple[str, Cell]]:
    """(ladder, cell) of every `<root>/cells/<id>/config.yaml`; names malformed ones on stderr."""
    begun = set()
    for path in sorted(root.glob("cells/*/config.yaml")):
        try:
            config = yaml.safe_load(path.read_text("utf-8"))
            begun.add((str(config["ladder"]), _cell(config["axes"])))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
            print(f"{path}: ladder and axes cannot be read; ignored.", file=sys.stderr)
    return begun
