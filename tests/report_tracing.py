"""Every text of a report's tables worked out again from result files, without the report's code.

Only the tests themselves are shared: p values and intervals of two systems, which have tests of
their own.
"""

import json
import statistics
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from report_cells import TITLES

from lion_sweep.evaluation.significance import align, bootstrap_intervals, paired_randomisation

HOLE, SIZES = "—", ("1b", "3b", "8b")
Values = dict[str, float]
Key = tuple[str, str, str, str]  # model, paradigm, loss, rank


def dig(record: Any, *keys: str) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def fixed(value: float | None, form: str) -> str:
    return HOLE if value is None else format(value, form)


@dataclass
class Traced:
    """The files below a folder, and how tests were to be made."""

    root: Path
    permutations: int
    samples: int
    measures: tuple[str, str] = ("nDCG@10", "MRR@10")
    notes: list[str] = field(default_factory=list)

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        files = sorted(self.root.glob("cells/*/result.json"))
        return [json.loads(path.read_text()) | {"at": path.parent} for path in files]

    @cached_property
    def failed(self) -> dict[tuple[Key, int], Path]:
        files = sorted(self.root.glob("cells/*/config.yaml"))
        told = [(json.loads(path.read_text()), path.parent) for path in files]
        return {
            (key_of(config), config["seed"]): at
            for config, at in told
            if not (at / "result.json").exists()
        }

    def keys(self, collection: str) -> list[Key]:
        """Cells of a section in the order of tables: by paradigm, loss, rank and size."""
        there = [key_of(r["config"] | {"axes": r["axes"]}) for r in self.of(collection)]
        found = {*there, *(key for key, _ in self.failed)}
        losses = list(TITLES)

        def order(key: Key) -> tuple[bool, int, int, int]:
            return key[1] == "dense", losses.index(key[2]), int(key[3]), SIZES.index(key[0])

        return sorted(found, key=order)

    def of(self, collection: str, key: Key | None = None) -> list[dict[str, Any]]:
        """Results on the collection, of a cell by seed."""
        found = [r for r in self.results if collection in r["scores"]]
        if key:
            found = [r for r in found if key_of(r["config"] | {"axes": r["axes"]}) == key]
        return sorted(found, key=lambda r: r["seed"])

    def name(self, key: Key) -> str:
        return f"{self.row(key)} {key[0]}"

    def row(self, key: Key) -> str:
        _, paradigm, loss, rank = key
        every = [key_of(r["config"] | {"axes": r["axes"]}) for r in self.results]
        every += [other for other, _ in self.failed]
        ranks = {other[3] for other in every if other[1:3] == (paradigm, loss)}
        return f"{paradigm} {TITLES[loss]}" + (f", rank={rank}" if len(ranks) > 1 else "")

    def mean(self, collection: str, key: Key | None, measure: str) -> float | None:
        """Over seeds; BM25's without a key."""
        if key is None:
            return self.of(collection)[0]["bm25"][collection][measure]
        values = [r["scores"][collection][measure] for r in self.of(collection, key)]
        return statistics.fmean(values) if values else None

    @cache  # noqa: B019
    def values(self, collection: str, key: Key | None) -> Values | None:
        """Per query in the main measure, seeds averaged; BM25's without a key."""
        end = "" if key else ".bm25"
        found = [
            json.loads((r["at"] / "per_query" / f"{collection}{end}.json").read_text())
            for r in self.of(collection, key)
        ]
        runs = [one[self.measures[0]] for one in found]
        if not runs:
            return None
        return {query: statistics.fmean(run[query] for run in runs) for query in runs[0]}

    __hash__ = object.__hash__

    @cache  # noqa: B019
    def p(self, collection: str, a: Key | None, b: Key | None) -> float:
        left, right = self.values(collection, a), self.values(collection, b)
        assert left and right
        return paired_randomisation(left, right, self.permutations, 0)

    @cache  # noqa: B019
    def adjusted(self, collection: str) -> dict[tuple[Key | None, Key | None], float]:
        """Holm's p of all pairs, BM25 last."""
        systems = [key for key in self.keys(collection) if self.values(collection, key)]
        pairs = list(combinations([*systems, None], 2))
        told = sorted((self.p(collection, *pair), at) for at, pair in enumerate(pairs))
        found, before = {}, 0.0
        for place, (p, at) in enumerate(told):
            before = max(before, min(1.0, p * (len(pairs) - place)))
            found[pairs[at]] = found[pairs[at][::-1]] = before
        return found

    def difference(self, collection: str, a: Key | None, b: Key | None) -> Values:
        left, right = self.values(collection, a), self.values(collection, b)
        assert left and right
        return {query: left[query] - right[query] for query in left}

    def ends(self, values: Values) -> tuple[float, float]:
        zero = dict.fromkeys(values, 0.0)
        [_, [low, high]] = bootstrap_intervals(
            align({"one": values, "zero": zero}), self.samples, 0
        )[0][::-1]
        return low, high

    def before(self, collection: str, key: Key) -> Key | None:
        """The nearest smaller size of the row that has values."""
        at = SIZES.index(key[0])
        smaller = [(size, *key[1:]) for size in reversed(SIZES[:at])]
        there = self.keys(collection)
        known = (k for k in smaller if k in there and self.values(collection, k))
        return next(known, None)


def key_of(config: dict[str, Any]) -> Key:
    axes = config["axes"]
    rank = str(dig(config, "recipe", "lora", "rank") or 4)
    return axes["model"], axes["paradigm"], axes["loss"], rank


Rows = list[dict[str, str]]


def scaling(traced: Traced, collection: str, measure: str) -> Rows:
    """The scaling table, marks and intervals in the main measure alone."""
    main, rows = measure == traced.measures[0], {}
    keys = traced.keys(collection)
    marks = marked(traced, collection) if main else {}
    for key in keys:
        row = rows.setdefault(traced.row(key), {"": traced.row(key)} | dict.fromkeys(SIZES, ""))
        values = [r["scores"][collection][measure] for r in traced.of(collection, key)]
        text = fixed(traced.mean(collection, key, measure), ".4f")
        if len(values) > 1:
            text += f" ± {statistics.stdev(values):.4f} (n={len(values)})"
        elif values and main:
            low, high = traced.ends(traced.values(collection, key) or {})
            text += f" [{low:.3f}, {high:.3f}]"
        row[key[0]] = f"{text} {marks.get(key, '')}".strip()
    baseline = fixed(traced.mean(collection, None, measure), ".4f")
    return [*rows.values(), {"": "BM25"} | dict.fromkeys(SIZES, baseline)]


def entropies(traced: Traced, collection: str) -> Rows:
    """Means over seeds, of those that have one."""
    rows: dict[str, dict[str, str]] = {}
    for key in traced.keys(collection):
        row = rows.setdefault(traced.row(key), {"": traced.row(key)} | dict.fromkeys(SIZES, ""))
        values = [r["entropy"][collection] for r in traced.of(collection, key)]
        row[key[0]] = fixed(statistics.fmean(values) if values else None, ".4f")
    return list(rows.values())


def marked(traced: Traced, collection: str) -> dict[Key, str]:
    """Marks of a section's cells, but those that all cells would bear."""
    adjusted = traced.adjusted(collection)
    systems = [key for key in traced.keys(collection) if traced.values(collection, key)]
    means = {key: statistics.fmean((traced.values(collection, key) or {}).values())
             for key in [*systems, None]}  # fmt: skip
    best = max(systems, key=lambda key: means[key])
    found: dict[str, list[Key]] = {mark: [] for mark in "↑↓≈†‡"}
    for key in systems:
        for other, above, below in ((traced.before(collection, key), *"↑↓"), (None, *"†‡")):
            if (other or above == "†") and adjusted[key, other] <= 0.05:
                found[above if means[key] > means[other] else below].append(key)
        if key != best and adjusted[key, best] > 0.05:
            found["≈"].append(key)
    told = {m: keys for m, keys in found.items() if not (m in "†‡" and len(keys) == len(systems))}
    return {key: "".join(m for m, keys in told.items() if key in keys) for key in systems}


def significance(traced: Traced, collection: str) -> Rows:
    adjusted = traced.adjusted(collection)
    systems = [key for key in traced.keys(collection) if traced.values(collection, key)]
    rows = []
    for key in [*systems, None]:
        values = traced.values(collection, key)
        assert values
        low, high = traced.ends(values)
        others = [other for other in [*systems, None] if other != key]
        sides = [
            statistics.fmean(traced.difference(collection, key, other).values())
            for other in others
            if adjusted[key, other] <= 0.05
        ]
        seeds = ", ".join(str(r["seed"]) for r in traced.of(collection, key)) if key else "n/a"
        before = traced.before(collection, key) if key else None
        rows.append(
            {
                "System": traced.name(key) if key else "BM25",
                traced.measures[0]: f"{statistics.fmean(values.values()):.4f}",
                "Seeds": seeds,
                "Interval": f"[{low:.4f}, {high:.4f}]",
                "Above": str(sum(side > 0 for side in sides)),
                "Below": str(sum(side < 0 for side in sides)),
                **compared(traced, collection, key, None, bool(key), "Less BM25", "BM25"),
                **compared(traced, collection, key, before, bool(before), "Step", "step"),
            }
        )
    return rows


def compared(
    traced: Traced, collection: str, a: Key | None, b: Key | None, known: bool, *names: str
) -> dict[str, str]:
    title, short = names
    heads = [title, f"Interval, {short}", f"d, {short}", f"p, {short}", f"p, {short} (Holm)"]
    if not known:
        found = dict.fromkeys(heads, "n/a")
    else:
        difference = traced.difference(collection, a, b)
        told = list(difference.values())
        low, high = traced.ends(difference)
        texts = [
            f"{statistics.fmean(told):+.4f}",
            f"[{low:+.4f}, {high:+.4f}]",
            f"{statistics.fmean(told) / statistics.stdev(told):+.2f}",
            f"{traced.p(collection, a, b):.2g}",
            f"{traced.adjusted(collection)[a, b]:.2g}",
        ]
        found = dict(zip(heads, texts, strict=True))
    if short == "BM25":
        del found[heads[1]], found[heads[3]]
    return found
