"""What cells cost, lack and vary by, worked out again from result files; see report_tracing."""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from report_tracing import HOLE, Rows, Traced, dig, fixed


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
    order = [traced.name(key) for key in traced.keys("pydoc")]
    return sorted(rows, key=lambda row: (order.index(row["Cell"]), row["Seed"]))


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
