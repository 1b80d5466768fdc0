"""Every text of a report's tables worked out again from result files, without the report's code.

Only the tests themselves are shared: p values and intervals of two systems, which have tests of
their own.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from report_results import TITLES

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


def by_seed(traced: Traced, collection: str, columns: dict[str, Callable[[Any], str]]) -> Rows:
    rows: Rows = []
    for key in traced.keys(collection):
        name, found = {"Cell": traced.name(key)}, traced.of(collection, key)
        rows += [
            name | {"Seed": str(r["seed"])} | {head: text(r) for head, text in columns.items()}
            for r in found
        ] or [name | {"Seed": HOLE} | dict.fromkeys(columns, HOLE)]
    return rows


def details(traced: Traced, collection: str) -> Rows:
    main = traced.measures[0]
    return by_seed(
        traced,
        collection,
        {
            f"Untrained {main}": lambda r: fixed(dig(r, "untrained", collection, main), ".4f"),
            main: lambda r: f"{r['scores'][collection][main]:.4f}",
            "Gain": lambda r: fixed(dig(r, "gain", collection, main), "+.4f"),
            "p": lambda r: fixed(dig(r, "gain", collection, "p"), ".2g"),
            "Exact top 10 %": lambda r: "exact",
            "Exact hits %": lambda r: "exact",
            "Encode s": lambda r: f"{r['efficiency'][collection]['encode_seconds']:.1f}",
            "Search s": lambda r: f"{r['efficiency'][collection]['search_seconds']:.1f}",
            "All stages s": lambda r: f"{sum(s['seconds'] for s in r['stages'].values()):.1f}",
        },
    )


def efficiency(traced: Traced, collection: str) -> Rows:
    def terms(key: str) -> Callable[[Any], str]:
        def text(r: Any) -> str:
            value = r["efficiency"][collection].get(key)
            return "n/a" if value is None else f"{value:.1f}"

        return text

    def latency(r: Any) -> str:
        queries = r["collections"][collection]["queries"]
        return f"{1000 * r['efficiency'][collection]['search_seconds'] / queries:.3g}"

    main = traced.measures[0]
    return by_seed(
        traced,
        collection,
        {
            main: lambda r: f"{r['scores'][collection][main]:.4f}",
            "L0 document": terms("L0_documents"),
            "L0 query": terms("L0_queries"),
            "Posting FLOPs": terms("flops"),
            "Index bytes": lambda r: f"{r['efficiency'][collection]['index_bytes']:,}",
            "ms per query": latency,
            "Contrastive entropy": lambda r: f"{r['entropy'][collection]:.4f}",
        },
    )


def compute(traced: Traced, collection: str) -> Rows:
    def shared(stage: str) -> Callable[[Any], str]:
        def text(r: Any) -> str:
            if stage not in r["ledger"]:
                return "none"
            at = dig(r, "stages", stage, "folder") or r["id"]
            users = [
                other
                for other in traced.of(collection)
                if stage in other["ledger"]
                and (dig(other, "stages", stage, "folder") or other["id"]) == at
            ]
            return f"{r['ledger'][stage]['spent']['useful_flops'] / len(users):.3g}"

        return text

    def spent(key: str, form: str) -> Callable[[Any], str]:
        return lambda r: format(r["ledger"]["train"]["spent"][key], form)

    def planned(r: Any) -> float:
        return r["ledger"]["train"]["planned"]["useful_flops"]

    def taken(r: Any) -> float:
        return r["device"]["train_seconds"] * r["device"]["count"]

    def share(r: Any) -> float:
        useful = r["ledger"]["train"]["spent"]["useful_flops"]
        return 100 * useful / (r["device"]["peak_flops"] * taken(r))

    def rate(r: Any) -> float:
        return r["ledger"]["train"]["spent"]["tokens"] / r["device"]["train_seconds"]

    def over(r: Any) -> float:
        return 100 * (r["ledger"]["train"]["spent"]["useful_flops"] / planned(r) - 1)

    return by_seed(
        traced,
        collection,
        {
            "Device": lambda r: f"{r['device']['count']} x {r['device']['name']}",
            "Steps": spent("steps", ",.0f"),
            "Tokens": spent("tokens", ",.0f"),
            "FLOPs planned": lambda r: f"{planned(r):.3g}",
            "FLOPs spent": spent("useful_flops", ".3g"),
            "Deviation %": lambda r: f"{over(r):+.2f}",
            "FLOPs executed": spent("hardware_flops", ".3g"),
            "FLOPs adapt": shared("adapt"),
            "FLOPs encode": lambda r: f"{r['ledger']['encode']['spent']['useful_flops']:.3g}",
            "FLOPs teacher": shared("teacher"),
            "Train tokens/s": lambda r: f"{rate(r):,.0f}",
            "GPU-hours": lambda r: amount(taken(r) / 3600),
            "MFU %": lambda r: f"{share(r):.1f}",
            "Money": lambda r: amount(taken(r) / 3600 * r["config"]["site"]["price"]),
        },
    )


def amount(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"


def missing(traced: Traced) -> Rows:
    rows = []
    for (key, seed), at in traced.failed.items():
        files = sorted(at.glob("attempts/*.json"))
        last = json.loads(files[-1].read_text()) if files else {}
        failure, when = last.get("failure") or {}, last.get("ended") or last.get("started")
        said = {
            None: ("not begun", HOLE),
            "failed": (f"failed: {failure.get('class')}", failure.get("message", HOLE)),
            "running": (
                "no end recorded",
                "runs, or was killed without a word; `python -m lion_sweep.status` knows more",
            ),
        }[last.get("outcome")]
        rows.append(
            {
                "Cell": traced.name(key),
                "Seed": str(seed),
                "Id": at.name,
                "State": said[0],
                "Attempts": str(len(files)),
                "Last (UTC)": time.strftime("%Y-%m-%d %H:%M", time.gmtime(when)) if when else HOLE,
                "What was said": said[1],
            }
        )
    return sorted(rows, key=lambda row: (row["Cell"], row["Seed"], row["Id"]))


def noise(traced: Traced, collections: list[str]) -> Rows:
    rows = []
    for collection in collections:
        main, keys = traced.measures[0], traced.keys(collection)
        means = [m for key in keys if (m := traced.mean(collection, key, main)) is not None]
        runs = [[r["scores"][collection][main] for r in traced.of(collection, k)] for k in keys]
        seeds = [statistics.stdev(run) / statistics.fmean(run) for run in runs if len(run) > 1]
        last, relative = [], []
        for r in traced.of(collection):
            lines = (r["at"] / "points.jsonl").read_text().splitlines()
            points = [json.loads(line) for line in lines]
            end = max(point["step"] for point in points)
            late = [point["MRR@10"] for point in points if point["step"] > end / 2]
            if r["data"] == collection and len(late) >= 3:
                last.append(late[-1])
                relative.append(statistics.stdev(late) / statistics.fmean(late))
        wide, trained = spread(means), spread(last)
        over_seeds = statistics.fmean(seeds) if seeds else None
        over_points = statistics.fmean(relative) if relative else None
        rows.append(
            {
                "Collection": collection,
                "Measure": main,
                "Spread of cells %": unknown(wide, 100),
                "Over seeds %": unknown(over_seeds, 100),
                "Signal to noise, seeds": unknown(wide, 1, over_seeds),
                "Spread in training, MRR@10 %": unknown(trained, 100),
                "Over last points %": unknown(over_points, 100),
                "Signal to noise, points": unknown(trained, 1, over_points),
                "Results with points": str(len(relative)),
            }
        )
    return rows


def spread(values: list[float]) -> float | None:
    return (max(values) - min(values)) / float(np.mean(values)) if len(values) > 1 else None


def unknown(value: float | None, times: float, over: float | None = 1.0) -> str:
    return "unknown" if value is None or over is None else f"{value * times / over:.1f}"


def collected(traced: Traced, collections: list[str], group: str | None, sets: list[str]) -> Rows:
    """A row per cell and BM25: main measures, and the mean over sets where none is missing."""
    main = traced.measures[0]
    keys = list(dict.fromkeys(key for one in [*collections, *sets] for key in traced.keys(one)))
    rows = []
    for key in [*keys, None]:
        found = {one: traced.mean(one, key, main) for one in [*collections, *sets]}
        row = {"System": traced.name(key) if key else "BM25"}
        row |= {one: fixed(found[one], ".4f") for one in collections}
        if group:
            known = [value for one in sets if (value := found[one]) is not None]
            whole = statistics.fmean(known) if len(known) == len(sets) else None
            row[f"mean of {group} ({len(sets)})"] = fixed(whole, ".4f")
        rows.append(row)
    return rows
