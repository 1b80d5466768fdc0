"""Two or more ways to the same result, timed in turn in one process."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def seconds(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every side in every round, after one round that is not counted."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if number:
                measured[name].append(time.perf_counter() - start)
    return measured


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _device() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} cores"


def _ratios(measured: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Of every other side's seconds to those of the first, which is ours, in the same round."""
    ours, *others = measured
    return {
        other: _spread([b / a for a, b in zip(measured[ours], measured[other], strict=True)])
        for other in others
    }


def _sides(measured: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    return {side: _spread(values) | {"unit": "s"} for side, values in measured.items()}


def _print(measured: dict[str, list[float]], title: str = "") -> None:
    ratios = _ratios(measured)
    print(f"\n| {title or 'side'} | seconds, median | times ours, median (min to max) |")
    print("| --- | ---: | ---: |")
    for side, values in measured.items():
        ratio = ratios.get(side, {"median": 1, "min": 1, "max": 1})
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        print(f"| {side} | {statistics.median(values):.4f} | {spread} |")


def report(
    measured: dict[str, list[float]],
    *,
    checked: str,
    packages: list[str],
    facts: dict[str, Any],
    cases: dict[str, dict[str, list[float]]] | None = None,
) -> None:
    """Print the tables and write results/<module>.json.

    The first side is ours; a ratio is that of another side's seconds to ours in the same round.
    `checked` says in what the sides were found equal before anything was timed. `measured` is the
    case that the result is known by, `cases` are more of them by name.
    """
    name = Path(sys.argv[0]).stem
    ratios = _ratios(measured)
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    print(f"equal: {checked}")
    _print(measured)
    for title, case in (cases or {}).items():
        _print(case, title)
    RESULTS.mkdir(exist_ok=True)
    written = {
        "sides": _sides(measured),
        "ratio": next(iter(ratios.values())),
        "ratios": ratios,
        "cases": {
            title: {"sides": _sides(case), "ratios": _ratios(case)}
            for title, case in (cases or {}).items()
        },
        "equal": True,  # or nothing would have been timed
        "checked": checked,
        "device": _device(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in packages},
        "command": f"python -m benchmarks.{' '.join([name, *sys.argv[1:]])}",
        "facts": facts,
    }
    text = json.dumps(written, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
