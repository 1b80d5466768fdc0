"""Cells as a sweep leaves them, made up: results, values per query, points, and failed attempts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report_cells import TITLES

from lion_sweep.report.axes import Cell
from lion_sweep.result import FORMAT

SIZES = {"1b": 0.8e6, "3b": 2.0e6, "8b": 4.7e6}
OWN, SETS = "pydoc", ("arguana", "nfcorpus", "scifact")
MEASURES = ("nDCG@10", "MRR@10")
QUERIES = 40


@dataclass(frozen=True)
class Sweep:
    """Where cells are written, what they are scored on, and how many queries that has."""

    root: Path
    ladder: str = "proxy"
    collections: Sequence[str] = (OWN,)
    queries: int = QUERIES

    def write(
        self, cell: Cell, seed: int = 42, lacking: Sequence[str] = (), **changes: Any
    ) -> Path:
        """A finished cell; every number of it is drawn from its axes and its seed."""
        words = (cell.model, cell.paradigm, cell.loss, *(f"{k}={v}" for k, v in cell.more))
        name = "-".join([*words, str(seed), self.ladder])
        rng = np.random.default_rng(list(name.encode()))
        folder = self.root / "cells" / name
        (folder / "per_query").mkdir(parents=True)
        here = [one for one in self.collections if one not in lacking]
        values = {one: self._values(rng, one) for one in here}
        bm25 = {one: self._values(np.random.default_rng(list(one.encode())), one) for one in here}
        for one in here:
            for found, end in ((values, ""), (bm25, ".bm25")):
                (folder / "per_query" / f"{one}{end}.json").write_text(json.dumps(found[one]))
        record = self._record(cell, seed, name, rng) | {
            "scores": means(values),
            "bm25": means(bm25),
            "untrained": {OWN: {m: float(rng.random() / 4) for m in MEASURES}},
            "gain": {OWN: {MEASURES[0]: float(rng.random() / 4), "p": float(rng.random() / 50)}},
            "entropy": {one: float(rng.uniform(1, 3)) for one in here},
            "efficiency": {one: efficiency(cell, rng) for one in here},
            "collections": {
                one: {"group": None if one == OWN else "beir", "checksum": f"c{one}"}
                | {"queries": self.queries}
                for one in here
            },
        }
        (folder / "result.json").write_text(json.dumps(record | changes))
        (folder / "config.yaml").write_text(json.dumps({"axes": record["axes"]} | record["config"]))
        points = [{"step": 10 * n, "MRR@10": float(rng.uniform(0.5, 0.6))} for n in range(1, 9)]
        (folder / "points.jsonl").write_text("".join(json.dumps(one) + "\n" for one in points))
        return folder

    def _values(self, rng: np.random.Generator, collection: str) -> dict[str, dict[str, float]]:
        names = [f"{collection}-{number:03}" for number in range(self.queries)]
        level = rng.uniform(0.2, 0.6)
        drawn = {m: np.clip(rng.normal(level, 0.2, self.queries), 0, 1) for m in MEASURES}
        return {m: dict(zip(names, found.tolist(), strict=True)) for m, found in drawn.items()}

    def _record(self, cell: Cell, seed: int, name: str, rng: np.random.Generator) -> dict[str, Any]:
        spent = float(rng.uniform(1e12, 2e12))
        ledger = {
            "adapt": {"spent": {"useful_flops": float(rng.uniform(1e10, 2e10))}},
            "train": {
                "planned": {"useful_flops": 1.5e12},
                "spent": {
                    "useful_flops": spent,
                    "hardware_flops": 1.2 * spent,
                    "steps": int(rng.integers(20, 600)),
                    "tokens": int(rng.integers(1e5, 1e6)),
                },
            },
            "encode": {"spent": {"useful_flops": float(rng.uniform(1e11, 2e11))}},
        }
        if cell.loss != "cl":
            ledger["teacher"] = {"spent": {"useful_flops": float(rng.uniform(1e11, 2e11))}}
        seconds = {role: float(rng.uniform(1, 90)) for role in ("adapt", "train", "encode")}
        return {
            "format": FORMAT,
            "id": name,
            "axes": {"model": cell.model, "paradigm": cell.paradigm, "loss": cell.loss},
            "config": config(cell, self.ladder, seed),
            "ladder": self.ladder,
            "seed": seed,
            "data": OWN,
            "backbone": {"name": cell.model, "parameters": SIZES[cell.model], "start": "random"},
            "teacher": None if cell.loss == "cl" else {"name": "minilm"},
            "ledger": ledger,
            "device": {
                "name": "h100",
                "peak_flops": 1e12,
                "count": 2,
                "train_seconds": float(rng.uniform(100, 9000)),
            },
            "stages": {
                role: {"seconds": taken, "folder": f"{role}-{cell.model}"}
                for role, taken in seconds.items()
            },
            "versions": {"python": "3.11.7"},
            "environment": {"commit": "3cd7863"},
        }

    def fail(self, cell: Cell, seed: int = 42, **attempt: Any) -> Path:
        """A cell that was begun; `attempt` is the record of the one it made, without it none."""
        folder = self.root / "cells" / f"{cell.model}-{cell.paradigm}-{cell.loss}-{seed}-failed"
        folder.mkdir(parents=True)
        axes = {"model": cell.model, "paradigm": cell.paradigm, "loss": cell.loss}
        told = {"axes": axes} | config(cell, self.ladder, seed)
        (folder / "config.yaml").write_text(json.dumps(told))
        if attempt:
            (folder / "attempts").mkdir()
            (folder / "attempts" / "0001.json").write_text(json.dumps(attempt))
        return folder


def config(cell: Cell, ladder: str, seed: int) -> dict[str, Any]:
    told: dict[str, Any] = {"loss": {"title": TITLES[cell.loss]}, "seed": seed, "ladder": ladder}
    told |= {"site": {"price": 2.5}}
    for key, value in cell.more:
        at = told
        *way, last = key.split(".")
        for name in way:
            at = at.setdefault(name, {})
        at[last] = value
    return told


def efficiency(cell: Cell, rng: np.random.Generator) -> dict[str, float]:
    found = {
        "index_bytes": int(rng.integers(1e6, 9e6)),
        "encode_seconds": float(rng.uniform(1, 60)),
        "search_seconds": float(rng.uniform(0.1, 3)),
    }
    if cell.paradigm == "sparse":
        found |= {
            "L0_documents": float(rng.uniform(50, 300)),
            "L0_queries": float(rng.uniform(5, 40)),
        }
        found |= {"flops": float(rng.uniform(0.5, 9))}
    return found


def means(values: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """By collection and measure, of values by query."""
    return {
        one: {m: float(np.mean(list(found.values()))) for m, found in by_measure.items()}
        for one, by_measure in values.items()
    }
