"""Read the cells of a sweep: their results, and which were asked for and have none."""

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from lion_sweep import result
from lion_sweep.cell.names import Settings, settings
from lion_sweep.config.composing import CONFIG
from lion_sweep.config.ladder import LABELS
from lion_sweep.config.schema import AXES


@dataclass(frozen=True)
class Asked:
    """A cell that was asked for: its ladder, axes, settings, and what its options are called.

    One that has no result has the folder in which its attempts are recorded.
    """

    ladder: str
    axes: Mapping[str, str]
    settings: Settings
    titles: Mapping[str, str]
    folder: Path | None = None

    @classmethod
    def of(cls, ladder: str, axes: Mapping[str, Any], config: Mapping[str, Any]) -> "Asked":
        """From a configuration. Raises KeyError where an axis is missing."""
        names = {axis: str(axes[axis]) for axis in AXES}
        titles = {a: str((config.get(a) or {}).get("title") or names[a]) for a in AXES}
        return cls(ladder, names, settings(config), titles)


@dataclass(frozen=True)
class CellResult:
    """The fields of a finished cell's result.json, its folder and when it changed (Unix s).

    `price` is money per GPU-hour where its configuration tells it, `alarms` are the limits of
    these, `copies` names other folders with a result of the same id.
    """

    id: str
    asked: Asked
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
    collections: dict[str, dict[str, Any]]
    ledger: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    versions: dict[str, Any]
    device: dict[str, Any]
    folder: Path
    modified: float
    teacher_audit: dict[str, Any] = field(default_factory=dict)
    entropy: dict[str, Any] = field(default_factory=dict)
    topk: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    price: float | None = None
    alarms: Mapping[str, Any] = field(default_factory=dict)
    copies: tuple[str, ...] = ()

    def checksum(self, collection: str) -> str | None:
        """Of the content that the cell was scored on; None where it is not told."""
        return self.collections.get(collection, {}).get("checksum")

    def stage_folder(self, stage: str) -> str:
        """Name of the folder a stage's result lies in; the cell's own id where it is not told."""
        return str(self.stages.get(stage, {}).get("folder", self.id))


def number(record: Mapping[str, Any], *keys: str) -> float | None:
    """The number under nested keys; None where a key is absent or holds no number."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_result(path: Path) -> CellResult:
    """Read one result.json; raises ValueError naming the file (and the line of a JSON error)."""
    record = result.read_result(path)
    ladder, config = record["ladder"], dict(record["config"])
    if ladder not in LABELS:
        raise ValueError(f"{path}: ladder '{ladder}' is not one of {', '.join(LABELS)}")
    if record["teacher"] is None:
        config.pop("teacher", None)  # its loss reads none, whichever was chosen beside it
    try:
        asked = Asked.of(ladder, record["axes"], config)
    except KeyError as error:
        raise ValueError(f"{path}: axis {error} is missing") from error
    not_told = {"asked", "folder", "modified", "price", "alarms", "copies"}
    own = {entry.name for entry in fields(CellResult)} - not_told
    told: dict[str, Any] = {key: value for key, value in record.items() if key in own}
    price = number(config, "site", "price")
    alarms = {k: limit for k, limit in (config.get("alarms") or {}).items() if k != "name"}
    where: dict[str, Any] = {"folder": path.parent, "modified": path.stat().st_mtime}
    return CellResult(asked=asked, price=price, alarms=alarms, **where, **told)


def collect(root: Path) -> list[CellResult]:
    """Every readable `<root>/cells/<id>/result.json`; names each malformed one on stderr.

    Of several with one id, which are copies, the one in the folder of that name is taken, else the
    newest.
    """
    by_id: dict[str, list[CellResult]] = defaultdict(list)
    for path in sorted(root.glob(f"cells/*/{result.RESULT}")):
        try:
            found = read_result(path)
        except (ValueError, OSError) as error:
            print(f"{error}; the cell counts as a hole.", file=sys.stderr)
            continue
        by_id[found.id].append(found)
    return [_one_of(found) for found in by_id.values()]


def _one_of(found: list[CellResult]) -> CellResult:
    """The one of results of one id that is shown, with the folders of the others."""
    if len(found) == 1:
        return found[0]
    shown = max(found, key=lambda one: (one.folder.name == one.id, one.modified))
    copies = tuple(one.folder.name for one in found if one is not shown)
    print(
        f"{shown.id} is the id of {len(found)} results: shown is the one in {shown.folder}, "
        f"left out {', '.join(copies)}.",
        file=sys.stderr,
    )
    return replace(shown, copies=copies)


def unfinished(root: Path) -> list[Asked]:
    """Cells that have a configuration and no result that can be read; names malformed ones."""
    begun = []
    for path in sorted(root.glob(f"cells/*/{CONFIG}")):
        try:
            if not result.of_another(path.with_name(result.RESULT)):
                continue
            config = yaml.safe_load(path.read_text("utf-8"))
            asked = Asked.of(str(config["ladder"]), config["axes"], config)
            begun.append(replace(asked, folder=path.parent))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
            print(f"{path}: ladder and axes cannot be read; ignored.", file=sys.stderr)
    return begun
