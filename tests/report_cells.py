"""Cells of a report."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lion_sweep.config.schema import AXES
from lion_sweep.report.axes import STUDY, Cell
from lion_sweep.result import FORMAT

TITLES = {"cl": "CL", "kd": "KD", "clkd": "CL+KD"}


def grid(**values: Sequence[str]) -> list[Cell]:
    """All combinations of values of the axes; of one that is left out, the study's."""
    return [Cell(*one) for one in itertools.product(*(values.get(a, STUDY[a]) for a in AXES))]


def record(cell: Cell, ndcg: float | None, **changes: Any) -> dict[str, Any]:
    """What result.json holds of a cell with this nDCG@10 and round numbers otherwise."""
    collection = changes.pop("collection", "pydoc")
    scores = {"nDCG@10": ndcg, "MRR@10": 0.3, "Recall@100": 0.8}
    axes = {"model": cell.model, "paradigm": cell.paradigm, "loss": cell.loss}
    efficiency = {"index_bytes": 3 << 20, "encode_seconds": 1.5, "search_seconds": 0.25}
    if cell.paradigm == "sparse":
        efficiency |= {"L0_documents": 81.0, "L0_queries": 29.04, "flops": 5.0}
    return {
        "format": FORMAT,
        "id": "-".join((*axes.values(), "0f")),
        "axes": axes,
        "config": {
            "loss": {"title": TITLES[cell.loss]},
            "seed": changes.get("seed", 42),
            "ladder": changes.get("ladder", "proxy"),
        },
        "ladder": "proxy",
        "seed": 42,
        "data": "pydoc",
        "backbone": {"name": "tiny", "parameters": 762240, "start": "random <weights>"},
        "teacher": None,
        "scores": {collection: scores},
        "untrained": {collection: {"nDCG@10": 0.23}},
        "gain": {collection: {"nDCG@10": 0.18, "p": 0.0001}},
        "bm25": {collection: {"nDCG@10": 0.48, "MRR@10": 0.2, "Recall@100": 0.7}},
        "efficiency": {collection: efficiency},
        "collections": {collection: {"checksum": "abc"}},
        "ledger": {
            "adapt": {"spent": {"useful_flops": 3.0e10}},
            "train": {
                "planned": {"useful_flops": 1.0e12, "steps": 60, "tokens": 120000},
                "spent": {
                    "useful_flops": 1.1e12,
                    "hardware_flops": 1.3e12,
                    "steps": 60,
                    "tokens": 120000,
                },
            },
            "encode": {"spent": {"useful_flops": 2.0e11}},
        },
        "device": {"name": "h200", "peak_flops": 1e12, "count": 2, "train_seconds": 2.0},
        "stages": {
            "adapt": {"seconds": 9.1, "reused": True, "folder": "adapt-1"},
            "train": {"seconds": 1.0, "reused": False},
        },
        "versions": {"python": "3.11.7"},
    } | changes


def write_record(root: Path, cell: Cell, ndcg: float | None, **changes: Any) -> Path:
    """Write such a result.json below the root; returns where."""
    content = record(cell, ndcg, **changes)
    path = root / "cells" / f"{content['id']}-{content['ladder']}" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path
