"""Read the cells of a sweep and arrange them into the sections of a report."""

import itertools
import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

AXES = {
    "model": ("1b", "3b", "8b"),
    "paradigm": ("sparse", "dense"),
    "loss": ("cl", "kd", "clkd"),
}
LADDERS = ("proxy", "full")
MEASURES = ("nDCG@10", "MRR@10", "Recall@100")
OPTIONAL = (
    "backbone",
    "untrained",
    "gain",
    "bm25",
    "sparsity",
    "ledger",
    "stages",
    "versions",
    "device",
)
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
    """A finished cell: the fields of its result.json, and when that file changed (Unix s)."""

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
    sparsity: dict[str, Any]
    ledger: dict[str, Any]
    stages: dict[str, Any]
    versions: dict[str, Any]
    device: dict[str, Any]
    modified: float

    def stage_folder(self, stage: str) -> str:
        """Name of the folder a stage's result lies in; the cell's own id where it is not told."""
        told = self.stages.get(stage)
        return str(told.get("folder", self.id) if isinstance(told, dict) else self.id)


@dataclass(frozen=True)
class Score:
    """Mean of a measure over `n` seeds and its sample standard deviation (None for one seed)."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Section:
    """The asked-for cells of one ladder on one collection, with one result per cell and seed."""

    ladder: str
    collection: str
    results: dict[Cell, list[CellResult]]
    started: frozenset[Cell]
    notes: list[str]

    @property
    def models(self) -> list[str]:
        """Asked-for sizes, in grid order."""
        return list(dict.fromkeys(cell.model for cell in self.results))

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Asked-for (paradigm, loss) pairs, in grid order."""
        return list(dict.fromkeys((cell.paradigm, cell.loss) for cell in self.results))

    @property
    def shown(self) -> list[CellResult]:
        """Every result of the section, in grid order, then by seed."""
        return [result for results in self.results.values() for result in results]

    def shares(self) -> Counter[tuple[str, str]]:
        """How many results read each (stage, folder)."""
        return Counter(
            (stage, result.stage_folder(stage)) for result in self.shown for stage in result.ledger
        )

    def score(self, cell: Cell, measure: str) -> Score | None:
        """The measure (0 to 1) of a cell over its seeds; None for a hole."""
        found = [number(r.scores, self.collection, measure) for r in self.results[cell]]
        values = [value for value in found if value is not None]
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else None
        return Score(statistics.fmean(values), std, len(values))

    def bm25(self, measure: str) -> float | None:
        """The BM25 baseline (0 to 1) as the newest result has it; None where none has it."""
        newest_first = sorted(self.shown, key=lambda r: r.modified, reverse=True)
        found = (number(r.bm25, self.collection, measure) for r in newest_first)
        return next((value for value in found if value is not None), None)

    def holes(self, measure: str) -> list[Cell]:
        """Asked-for cells without a number for the measure, in grid order."""
        return [cell for cell in self.results if self.score(cell, measure) is None]


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
    try:
        # NaN and infinities are no scores: they become null, hence holes.
        record = json.loads(path.read_text("utf-8"), parse_constant=lambda _: None)
        return _result(record, path.stat().st_mtime)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _result(record: Any, modified: float) -> CellResult:
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    kinds = {"id": str, "axes": dict, "ladder": str, "seed": int, "data": str, "scores": dict}
    for key, kind in kinds.items():
        if not isinstance(record.get(key), kind):
            raise ValueError(f"key '{key}' is missing or not of type {kind.__name__}")
    if record["ladder"] not in LADDERS:
        raise ValueError(f"ladder '{record['ladder']}' is not one of {', '.join(LADDERS)}")
    for collection, scores in record["scores"].items():
        values = scores.values() if isinstance(scores, dict) else [scores]
        if not all(isinstance(value, int | float | None) for value in values):
            raise ValueError(f"scores of '{collection}' are not numbers by measure")
    for key in ("teacher", *OPTIONAL):
        if not isinstance(record.get(key) or {}, dict):
            raise ValueError(f"key '{key}' is not an object")
    fields = {key: record[key] for key in kinds} | {key: record.get(key) or {} for key in OPTIONAL}
    fields |= {"axes": _cell(record["axes"]), "teacher": record.get("teacher")}
    return CellResult(**fields, modified=modified)


def _cell(axes: Mapping[str, Any]) -> Cell:
    return Cell(*(str(axes.get(axis)) for axis in AXES))


def collect(root: Path) -> list[CellResult]:
    """Every readable `<root>/cells/<id>/result.json`; names each malformed one on stderr."""
    results = []
    for path in sorted(root.glob("cells/*/result.json")):
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


def sections(
    results: Iterable[CellResult], cells: Iterable[Cell], begun: Iterable[tuple[str, Cell]] = ()
) -> list[Section]:
    """One section per (ladder, collection) of the results, holding the asked-for cells only."""
    by_key: dict[tuple[str, str], list[CellResult]] = {}
    for result in sorted(results, key=lambda r: (r.modified, r.id)):
        for name in result.scores:
            by_key.setdefault((result.ladder, name), []).append(result)
    cells, begun = list(cells), list(begun)
    built = []
    for (ladder, name), here in sorted(by_key.items(), key=lambda item: item[0]):
        notes: list[str] = []
        chosen = {c: _newest(c, [r for r in here if r.axes == c], notes) for c in cells}
        going = frozenset(cell for at, cell in begun if at == ladder)
        shown = [result for results in chosen.values() for result in results]
        if len({result.data for result in shown}) > 1:
            notes.append("Cells differ in their training data; --data NAME shows one kind.")
        if len({result.versions.get("collection") for result in shown}) > 1:
            notes.append("Cells were scored on collections of different checksums.")
        built.append(Section(ladder, name, chosen, going, notes))
    return built


def _newest(cell: Cell, oldest_first: list[CellResult], notes: list[str]) -> list[CellResult]:
    """The newest result per seed; adds a note naming the results it leaves out."""
    newest = {result.seed: result for result in oldest_first}
    for seed, shown in sorted(newest.items()):
        if older := [r.id for r in oldest_first if r.seed == seed and r is not shown]:
            notes.append(
                f"{cell}, seed {seed}: shows {shown.id}, the newest; "
                f"other configurations left out: {', '.join(older)}."
            )
    return [newest[seed] for seed in sorted(newest)]
