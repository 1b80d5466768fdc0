"""Whole grids of made-up results, with all that cells leave beside them; nothing is trained.

Numbers follow from seeds: they look like a small grid's, and mean nothing.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import hydra
import numpy as np
import yaml

from lion_sweep.config.composing import compose, config_folder, register
from lion_sweep.config.section import plain
from lion_sweep.report.axes import Cell
from lion_sweep.result import FORMAT

MEASURES = ("nDCG@10", "MRR@10", "Recall@100")
SIZES = {"1b": 0.8e6, "3b": 2.4e6, "8b": 6.4e6}
LOSSES = {"cl": 0.05, "kd": 0.0, "clkd": 0.08}
SIZED = ("1b", "3b")  # of the reports that a browser opens
NASTY = "</script><img/src=x/onerror=alert(1)>&amp;"
HITS, STEPS, FLOPS = 10, 60, 1.8e12

Config = dict[str, Any]


@functools.cache
def _composed(model: str, paradigm: str, loss: str, ladder: str) -> str:
    register()
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        words = [f"model={model}", f"paradigm={paradigm}", f"loss={loss}", f"ladder={ladder}"]
        return json.dumps(plain(compose(words)))


def config_of(cell: Cell, seed: int, ladder: str = "proxy") -> Config:
    """The whole configuration of a cell; `more` are dotted keys with JSON values."""
    config: Config = json.loads(_composed(cell.model, cell.paradigm, cell.loss, ladder))
    config["seed"] = seed
    for key, value in cell.more:
        *heads, last = key.split(".")
        place = functools.reduce(lambda part, head: part[head], heads, config)
        place[last] = json.loads(value)
    return config


@dataclass(frozen=True)
class Grid:
    """Where results go, and what they were scored on: names to (queries, passages, group)."""

    root: Path
    sets: Mapping[str, tuple[int, int, str | None]] = field(
        default_factory=lambda: {"pydoc": (40, 300, None)}
    )
    ladder: str = "proxy"
    history: bool = True
    runs: bool = True

    def finished(self, cell: Cell, seed: int = 42, **changes: Any) -> str:
        """Write a cell with its result; returns its id."""
        more = "".join(f"-{key}-{value}" for key, value in cell.more)
        identity = f"{cell.model}-{cell.paradigm}-{cell.loss}{more}-{seed:012x}".replace(".", "_")
        folder = self.root / "cells" / identity
        (folder / "per_query").mkdir(parents=True)
        (folder / "runs").mkdir()
        config = config_of(cell, seed, self.ladder)
        rng = np.random.default_rng([seed, *identity.encode()])
        scores, bm25 = {}, {}
        for name, (queries, passages, _) in self.sets.items():
            values = _values(rng, queries, _skill(cell))
            words = _values(np.random.default_rng(len(name)), queries, 0.48)
            scores[name], bm25[name] = _means(values), _means(words)
            _write(folder / "per_query" / f"{name}.json", values)
            _write(folder / "per_query" / f"{name}.bm25.json", words)
            if self.runs:
                lines = _run(rng, list(values[MEASURES[0]]), passages)
                (folder / "runs" / f"{name}.trec").write_text("".join(lines))
        if self.history:
            _lines(folder / "history.jsonl", _history(rng))
            _lines(folder / "points.jsonl", _points(rng))
        record = self._record(cell, identity, config, scores, bm25) | changes
        _write(folder / "result.json", record)
        config |= {"id": identity, "axes": record["axes"]}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "log.txt").write_text("made up\n")
        return identity

    def begun(self, cell: Cell, outcome: str = "", message: str = "", seed: int = 42) -> str:
        """Write a cell without a result, and how the last of its attempts ended."""
        identity = f"{cell.model}-{cell.paradigm}-{cell.loss}-begun{seed}"
        folder = self.root / "cells" / identity
        (folder / "attempts").mkdir(parents=True)
        axes = {"model": cell.model, "paradigm": cell.paradigm, "loss": cell.loss}
        config = config_of(cell, seed, self.ladder) | {"id": identity, "axes": axes}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if outcome:
            failure = {"class": "out of memory", "message": message} if message else None
            _write(folder / "attempts" / "1.json", {"outcome": outcome, "failure": failure})
        return identity

    def _record(
        self, cell: Cell, identity: str, config: Config, scores: Any, bm25: Any
    ) -> dict[str, Any]:
        own, main = next(iter(self.sets)), MEASURES[0]
        sparse = cell.paradigm == "sparse"
        size, number = SIZES[cell.model], len(identity)
        efficiency = {}
        for name, (_, passages, _) in self.sets.items():
            told = {"documents": passages, "index_bytes": int(passages * (900 if sparse else 512))}
            told |= {"encode_seconds": 1.5 + size / 1e6, "search_seconds": 0.02 + number / 1e3}
            if sparse:
                told |= {"L0_documents": 90 - size / 1e5, "L0_queries": 25.5, "flops": 3.25}
            efficiency[name] = told
        spent = {"steps": STEPS, "useful_flops": FLOPS * (1 + size / 1e10), "tokens": 120_000}
        return {
            "format": FORMAT,
            "id": identity,
            "axes": {"model": cell.model, "paradigm": cell.paradigm, "loss": cell.loss},
            "config": config,
            "ladder": self.ladder,
            "seed": config["seed"],
            "data": own,
            "site": "laptop",
            "precision": "fp32",
            "device": {"name": "cpu", "peak_flops": None, "count": 1, "train_seconds": 12.5},
            "backbone": {"name": f"proxy-{cell.model}", "parameters": size, "start": "random"},
            "teacher": {"name": "minilm"} if cell.loss != "cl" else None,
            "scores": scores,
            "untrained": {own: {main: scores[own][main] - 0.1}},
            "gain": {own: {main: 0.1, "p": 0.0001}},
            "bm25": bm25,
            "entropy": {name: 2.5 - scores[name][main] for name in scores},
            "efficiency": efficiency,
            "ledger": {
                "adapt": {"spent": {"steps": 2, "useful_flops": 3e10, "tokens": 64}},
                "train": {
                    "planned": spent | {"useful_flops": FLOPS},
                    "spent": spent | {"hardware_flops": FLOPS * 1.3},
                },
                "encode": {"spent": {"useful_flops": 2e11, "tokens": 9000}},
            },
            "stages": {
                "texts": {"folder": "texts-1", "seconds": 3.5, "reused": True},
                "train": {"folder": f"train-{identity}", "seconds": 30.25, "reused": False},
            },
            "collections": {
                name: {"group": group, "checksum": f"sum-{name}", "queries": queries,
                       "documents": passages}
                for name, (queries, passages, group) in self.sets.items()
            },
            "groups": {"pairs": 1600},
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
            "environment": {"processor": "Made-up CPU", "cores": 2, "gpu": None,
                            "commit": "3cd78638dd3c134a032b6f98fbe11a73c36a5c5e", "changed": False},
        }  # fmt: skip


def _skill(cell: Cell) -> float:
    size = {"1b": 0.0, "3b": 0.02, "8b": 0.05}[cell.model]
    return 0.35 + size + LOSSES[cell.loss] + (0.05 if cell.paradigm == "sparse" else 0.0)


def _values(rng: np.random.Generator, queries: int, skill: float) -> dict[str, dict[str, float]]:
    """Values per query of each measure: many are 0 or 1, as those of a real run are."""
    drawn = rng.beta(0.6 * skill + 0.1, 0.6 * (1 - skill) + 0.1, (len(MEASURES), queries))
    drawn = np.where(drawn < 0.15, 0.0, np.where(drawn > 0.9, 1.0, drawn.round(4)))
    ids = [f"q{number}" for number in range(queries)]
    rows = zip(MEASURES, drawn.tolist(), strict=True)
    return {measure: dict(zip(ids, row, strict=True)) for measure, row in rows}


def _means(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {measure: fmean(told.values()) for measure, told in values.items()}


def _run(rng: np.random.Generator, queries: Sequence[str], passages: int) -> list[str]:
    found = []
    for query in queries:
        hits = rng.choice(passages, HITS, replace=False)
        scores = np.sort(rng.random(HITS))[::-1]
        ranked = enumerate(zip(hits.tolist(), scores.tolist(), strict=True), start=1)
        found += [f"{query} Q0 d{hit} {rank} {score!r} made-up\n" for rank, (hit, score) in ranked]
    return found


def _history(rng: np.random.Generator) -> list[dict[str, float]]:
    steps = np.arange(1, STEPS + 1)
    loss = 2.5 * np.exp(-steps / 25) + 0.4 + rng.normal(0, 0.03, STEPS)
    return [
        {"step": int(step), "loss": float(value), "contrastive": float(value) / 2,
         "learning_rate": 1e-4 * min(1.0, step / 10), "gradient_norm": 1 / step,
         "useful_flops": FLOPS * step / STEPS, "tokens": 2000 * int(step), "seconds": 0.2 * step}
        for step, value in zip(steps.tolist(), loss.tolist(), strict=True)
    ]  # fmt: skip


def _points(rng: np.random.Generator) -> list[dict[str, float]]:
    return [
        {"step": step, "useful_flops": FLOPS * step / STEPS, "entropy": 3 - step / 40,
         "MRR@10": 0.2 + step / 300 + rng.normal(0, 0.005)}
        for step in (15, 30, 45, 60)
    ]  # fmt: skip


def _lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def page_of(root: Path) -> Path:
    return root / "reports" / "scaling" / "index.html"


def results(root: Path) -> dict[str, dict[str, Any]]:
    found = (json.loads(path.read_text()) for path in root.glob("cells/*/result.json"))
    return {record["id"]: record for record in found}


def ids_of(demo: Path) -> dict[str, str]:
    """The id of each cell of one seed, by what tables call it."""
    titles = {"cl": "CL", "kd": "KD", "clkd": "CL+KD"}
    return {
        f"{r['axes']['paradigm']} {titles[r['axes']['loss']]} {r['axes']['model']}": name
        for name, r in results(demo).items()
    }
