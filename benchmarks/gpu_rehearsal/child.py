"""One step, in a process of its own: its cases one after the other, a line of JSON for each event.

A case that fails or does not fit leaves the others alone. Lines are written the moment there is
something to tell, so that a process that is killed has told what it found.
"""

import argparse
import gc
import importlib
import json
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_rehearsal.target import Case, Target, target

ERROR_LINES = 5


def run(cases: Iterable[Case], target: Target, file: Path) -> bool:
    """Run every case; whether none failed."""
    failed = False
    with file.open("a", buffering=1) as lines:
        for case in cases:
            for event in _events(case, target):
                lines.write(json.dumps({"case": case.name} | event) + "\n")
                failed |= event.get("status") == "failed"
            gc.collect()
            torch.cuda.empty_cache()  # does nothing without CUDA
    return not failed


def _events(case: Case, target: Target) -> Iterable[dict[str, Any]]:
    start = time.perf_counter()
    free = target.free_gib
    if not target.tiny and case.gib > free:
        word = f"needs {case.gib:.1f} GiB of memory, and {free:.1f} GiB are free"
        yield {"status": "skipped", "word": word}
        return
    ended: dict[str, Any] = {"status": "ok"}
    try:
        for figure in case.run():
            yield {"figure": asdict(figure)}
    except (Exception, SystemExit):  # with the second, benchmarks say that sides do not agree
        traceback.print_exc()
        lines = traceback.format_exc().strip().splitlines()
        last = [line for line in lines if line.strip("^~ ")][-ERROR_LINES:]  # no markers alone
        ended = {"status": "failed", "word": "\n".join(last)}
    yield ended | {"seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    """The step that the command line names; status 1 where a case failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    here = target(options.device, options.tiny, options.seed)
    cases = importlib.import_module(options.module).cases(here)
    if not run(cases, here, options.file):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
