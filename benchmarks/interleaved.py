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


def seconds(
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    wait: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of every side in every round, after one round that is not counted.

    `wait` returns when the device has done all that it was given.
    """
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            wait()
            start = time.perf_counter()
            side()
            wait()
            if number:
                measured[name].append(time.perf_counter() - start)
    return measured


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def processor() -> str:
    """The name of this machine's CPU, and how many cores there are."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} cores"


def compared(measured: dict[str, list[float]], title: str = "side") -> dict[str, Any]:
    """Print the table of the sides; sides, ratio and ratios for the results.

    The first side is ours; a ratio is that of another side's seconds to ours in the same round.
    """
    ours, *others = measured
    ratios = {
        other: _spread([b / a for a, b in zip(measured[ours], measured[other], strict=True)])
        for other in others
    }
    print(f"| {title} | seconds, median | times ours, median (min to max) |")
    print("| --- | ---: | ---: |")
    for side, values in measured.items():
        ratio = ratios.get(side, {"median": 1, "min": 1, "max": 1})
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        print(f"| {side} | {statistics.median(values):.4f} | {spread} |")
    return {
        "sides": {side: _spread(values) | {"unit": "s"} for side, values in measured.items()},
        "ratio": ratios[others[0]],
        "ratios": ratios,
    }


def report(
    measured: dict[str, list[float]],
    *,
    checked: str,
    packages: list[str],
    facts: dict[str, Any],
    cases: dict[str, dict[str, list[float]]] | None = None,
    device: str | None = None,
    variant: str = "",
) -> None:
    """Print the tables and write results/<module>.json, or <module>_<variant>.json.

    `checked` says in what the sides were found equal before anything was timed. The result is known
    by `measured`; `cases` are more of them by name. Without `device`, this machine's CPU is named.
    """
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    print(f"equal: {checked}\n")
    results = compared(measured)
    for title, case in (cases or {}).items():
        print()
        results.setdefault("cases", {})[title] = compared(case, title)
    write(
        results,
        checked=checked,
        packages=packages,
        facts=facts,
        device=device or processor(),
        variant=variant,
    )


def _anywhere(words: list[str]) -> list[str]:
    """The words without options that name a place of this machine."""
    kept: list[str] = []
    for word in words:
        if not word.startswith("/"):
            kept.append(word)
        elif kept and kept[-1].startswith("--"):
            kept.pop()
    return kept


def write(
    results: dict[str, Any],
    *,
    checked: str,
    packages: list[str],
    facts: dict[str, Any],
    device: str,
    variant: str = "",
) -> None:
    """Write results/<module>.json, or <module>_<variant>.json."""
    name = Path(sys.argv[0]).stem
    RESULTS.mkdir(exist_ok=True)
    written = (
        results
        | {
            "equal": True,  # or nothing would have been timed
            "checked": checked,
            "device": device,
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in packages},
            "command": f"python -m benchmarks.{' '.join([name, *_anywhere(sys.argv[1:])])}",
            "facts": facts,
        }
    )
    text = json.dumps(written, indent=2) + "\n"
    file = f"{name}_{variant}.json" if variant else f"{name}.json"
    (RESULTS / file).write_text(text, encoding="utf-8")
