"""What the page shows of each finished cell, and of those that have no result.

What cells of a ladder have in common is told once; a cell tells what it has otherwise.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lion_sweep.cell.names import UNSET, differing, settings
from lion_sweep.config.composing import CONFIG
from lion_sweep.config.schema import AXES
from lion_sweep.files import read_json
from lion_sweep.report.axes import Cell, place
from lion_sweep.report.collect import Asked, CellResult, number
from lion_sweep.report.page import traces
from lion_sweep.report.page.commands import Commands
from lion_sweep.report.page.content import texts_of
from lion_sweep.report.sections import Section
from lion_sweep.report.significance import PerQuery, read_per_query
from lion_sweep.result import RESULT, of_another

TOLD = 5  # of the best and of the worst queries of a cell on a collection
CURVE, CURVES = 200, 20_000
"""Most steps of a curve that are kept, and most of all curves together."""


@dataclass(frozen=True)
class Shown:
    """A result, what it is called, and its result.json as it stands."""

    name: str
    result: CellResult
    record: Mapping[str, Any]
    sections: list[int] = field(default_factory=list)


def shown(sections: Sequence[Section]) -> dict[str, Shown]:
    """Every result of the sections by its id, with the numbers of the sections it stands in."""
    found: dict[str, Shown] = {}
    for place_of, section in enumerate(sections):
        for _, name, result in section.named:
            if result.id not in found:
                found[result.id] = Shown(name, result, read_json(result.folder / RESULT))
            found[result.id].sections.append(place_of)
    return found


def holes(sections: Sequence[Section], roots: Iterable[Path]) -> dict[tuple[str, Cell], str]:
    """Why cells have no result, as far as their folders tell; those not begun are left out."""
    asked = [(section.ladder, cell) for section in sections
             for cell, results in section.results.items() if not results]  # fmt: skip
    found: dict[tuple[str, Cell], str] = {}
    if not asked:
        return found
    keys = {tuple(key for key, _ in cell.more) for _, cell in asked}
    for path in (path for root in roots for path in sorted(root.glob(f"*/{CONFIG}"))):
        if not of_another(path.with_name(RESULT)):
            continue
        try:
            config = yaml.safe_load(path.read_text("utf-8"))
            begun = Asked.of(str(config["ladder"]), config["axes"], config)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
            continue
        why = f"{traces.ending(path.parent)} ({path.parent.name})"
        for more in keys:
            found[begun.ladder, place(begun, more)] = why
    return found


def cell_data(
    cells: Mapping[str, Shown], sections: Sequence[Section], commands: Commands
) -> dict[str, Any]:
    """All of them by id, under 'cells'; 'common' settings and provenance by ladder, and 'texts'."""
    by_ladder: dict[str, list[Shown]] = {}
    for one in cells.values():
        by_ladder.setdefault(one.result.ladder, []).append(one)
    most = max(20, min(CURVE, CURVES // max(1, len(cells))))
    texts: dict[str, dict[str, str]] = {}
    found, common = {}, {}
    for ladder, of_ladder in by_ladder.items():
        chosen = [settings(one.record["config"]) for one in of_ladder]
        facts = [_flat(provenance(one)) for one in of_ladder]
        common[ladder] = {"settings": _common(chosen), "provenance": _common(facts)}
        order = [f"{axis}.name" for axis in AXES] + differing(chosen)
        for one, own, fact in zip(of_ladder, chosen, facts, strict=True):
            root = one.result.folder.parent.parent
            found[one.result.id] = {
                "name": one.name,
                "ladder": ladder,
                "seed": one.result.seed,
                "sections": one.sections,
                "settings": _own(own, common[ladder]["settings"], order),
                "provenance": _own(fact, common[ladder]["provenance"], []),
                "ledger": {s: told.get("spent", {}) for s, told in _told(one.result.ledger)},
                "planned": number(one.result.ledger, "train", "planned", "useful_flops"),
                "stages": {s: told.get("seconds") for s, told in _told(one.result.stages)},
                "scores": one.result.scores,
                "untrained": one.result.untrained,
                "gain": one.result.gain,
                "bm25": one.result.bm25,
                "efficiency": one.result.efficiency,
                "entropy": one.record.get("entropy") or {},
                "history": _curve(one, traces.HISTORY, most),
                "points": _curve(one, traces.POINTS, most),
                "queries": _queries(one, [sections[s] for s in one.sections], texts),
                "commands": commands.of(one.result.id, one.record["config"], root),
            }  # fmt: skip
    return {"cells": found, "common": common, "texts": texts}


def _told(entries: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return ((key, value) for key, value in entries.items() if isinstance(value, Mapping))


def _curve(one: Shown, name: str, most: int) -> dict[str, list[float | None]] | None:
    return traces.columns(traces.json_lines(one.result.folder / name), most) or None


def provenance(one: Shown) -> dict[str, Any]:
    """Where a result comes from: machine, code, weights, teacher and texts."""
    record = one.record
    device = {k: v for k, v in (record.get("device") or {}).items() if k != "train_seconds"}
    teacher = record.get("teacher")
    return {
        "code": {k: (record.get("environment") or {}).get(k) for k in ("commit", "changed")},
        "device": device | {"site": record.get("site"), "precision": record.get("precision")},
        "machine": {
            key: value
            for key, value in (record.get("environment") or {}).items()
            if key not in ("commit", "changed")
        },
        "backbone": record.get("backbone") or {},
        "teacher": {"name": teacher.get("name") if teacher else "none"},
        "data": {"trained on": one.result.data, **(record.get("groups") or {})},
        "collections": {
            name: {key: told.get(key) for key in ("checksum", "documents", "queries", "group")}
            for name, told in _told(one.result.collections)
        },
        "versions": record.get("versions") or {},
    }


def _flat(value: Any, key: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        inner = (_flat(v, f"{key}.{k}" if key else str(k)) for k, v in value.items())
        return {name: text for found in inner for name, text in found.items()}
    return {key: "—" if value is None else str(value)}


def _common(told: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The value that most have of each key that all of them have."""
    keys = dict.fromkeys(key for one in told for key in one)
    counts = {key: Counter(one.get(key, UNSET) for one in told) for key in keys}
    return {key: count.most_common(1)[0][0] for key, count in counts.items()}


def _own(
    told: Mapping[str, str], common: Mapping[str, str], first: Sequence[str]
) -> dict[str, str]:
    """What differs from the common, after the keys that come first."""
    own = {key: told.get(key, UNSET) for key in first}
    return own | {key: v for key in common if (v := told.get(key, UNSET)) != common[key]}


def _queries(
    one: Shown, sections: Iterable[Section], texts: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """By collection: the worst and the best queries, BM25's values and the first hits."""
    found: dict[str, Any] = {}
    for section in sections:
        name, measure, result = section.collection, section.main, one.result
        folder = result.folder / "per_query"
        values = read_per_query(folder / f"{name}.json", measure,
                                number(result.scores, name, measure))  # fmt: skip
        if values is None or name in found:
            continue
        bm25 = read_per_query(folder / f"{name}.bm25.json", measure,
                              number(result.bm25, name, measure)) or {}  # fmt: skip
        worst, best = extremes(values, bm25)
        hits = traces.first_hits(result.folder / "runs" / f"{name}.trec", [*worst, *best])
        known_as = texts_of(name, result)
        _add_texts(texts.setdefault(known_as, {}), one, name, [*worst, *best])
        found[name] = {
            "measure": measure,
            "texts": known_as,
            "looked_up": hits is not None,
            **{
                which: [[q, values[q], bm25.get(q), (hits or {}).get(q, [])] for q in queries]
                for which, queries in (("worst", worst), ("best", best))
            },
        }
    return found


def extremes(values: PerQuery, bm25: PerQuery) -> tuple[list[str], list[str]]:
    """The worst and the best queries; of equal ones, those where BM25 does otherwise the most."""
    gap = {query: value - bm25.get(query, value) for query, value in values.items()}
    worst = sorted(values, key=lambda query: (values[query], gap[query], query))
    best = sorted(values, key=lambda query: (-values[query], -gap[query], query))
    most = min(TOLD, len(values) // 2)
    return worst[:most], best[:most]


def _add_texts(known: dict[str, str], one: Shown, name: str, queries: Sequence[str]) -> None:
    missing = [query for query in queries if query not in known]
    folder = one.result.stages.get(f"queries {name}", {}).get("folder")
    if missing and folder:
        stage = one.result.folder.parent.parent / "stages" / str(folder)
        known |= traces.query_texts(stage, missing)
