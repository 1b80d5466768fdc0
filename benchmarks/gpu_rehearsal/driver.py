"""Steps one after the other, each in a process group of its own with a time limit of its own.

`rehearsal.json` is rewritten the moment a step ends, and what steps print goes to `rehearsal.log`:
two files, as some machines give back only a few.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_rehearsal import packages
from benchmarks.gpu_rehearsal.bars import BARS
from benchmarks.gpu_rehearsal.steps import Step

RECORD, LOG = "rehearsal.json", "rehearsal.log"
LEAST_SECONDS = 10  # in which a step can do anything
ERROR_LINES = 8
LOGGED = 1 << 20  # characters of what a step printed, the last ones
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """What a command line asks for."""

    device: str  # cuda or cpu
    tiny: bool
    seconds: float  # for all steps
    folder: Path
    seed: int
    card: str

    def limit(self, step: Step) -> float:
        """A step's own limit; of small shapes, on whatever slow machine, that of the whole."""
        return self.seconds if self.tiny else step.seconds


def rehearse(run: Run, steps: Sequence[Step], tell: Callable[[str], None]) -> dict[str, Any]:
    """Run the steps, `tell` a line for each as it ends, and return the record, which is on disk.

    On a CPU two steps run at a time, as nothing there is measured.
    """
    start = time.monotonic()
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / LOG).write_text("")
    record: dict[str, Any] = {
        "card": run.card,
        "device": run.device,
        "tiny": run.tiny,
        "command": " ".join(["python -m benchmarks.gpu_rehearsal", *sys.argv[1:]]),
        "versions": packages.versions(),
        "seed": run.seed,
        "steps": [],
    }
    _write(run.folder, record)
    with ThreadPoolExecutor(1 if run.device == "cuda" else 2) as pool:
        try:
            for ended in pool.map(lambda step: _step(step, run, start + run.seconds), steps):
                record["steps"].append(ended)
                record["seconds"] = round(time.monotonic() - start, 1)
                _write(run.folder, record)
                tell(_line(ended, run, record["seconds"]))
        except BaseException:  # the command itself is stopped
            pool.shutdown(wait=False, cancel_futures=True)
            for group in list(RUNNING):
                _kill(group)
            raise
    return record


def _step(step: Step, run: Run, end: float) -> dict[str, Any]:
    begun = time.monotonic()
    limit = min(run.limit(step), end - begun)
    ended: dict[str, Any] = {"step": step.name, "limit": round(limit), "cases": []}
    if lacking := packages.missing(step.needs):
        return ended | {"status": "failed", "word": f"not installed: {', '.join(lacking)}"}
    if limit < LEAST_SECONDS:
        return ended | {"status": "skipped", "word": "no time was left"}
    with tempfile.TemporaryDirectory() as folder:
        events, printed = Path(folder) / "events", Path(folder) / "printed"
        code = _process(step, run, limit, events, printed)
        text = printed.read_text(errors="replace")
        ended["cases"] = _cases(events, whole=run.device == "cuda" and not run.tiny)
    seconds = round(time.monotonic() - begun, 1)
    with LOCK, (run.folder / LOG).open("a") as log:
        log.write(f"\n==== {step.name}\n{text[-LOGGED:]}")
    kinds = {case["status"] for case in ended["cases"]}
    ended["status"] = "ok" if "ok" in kinds or not kinds else "skipped"
    if code is None:
        ended |= {"status": "timeout", "word": f"stopped after {limit:.0f} s"}
    elif code and "failed" not in kinds:  # the process itself ended, and said why last
        word = "\n".join(text.strip().splitlines()[-ERROR_LINES:])
        ended |= {"status": "failed", "word": f"ended with {code}: {word}"}
    elif code:
        ended["status"] = "failed"
    return ended | {"seconds": seconds}


LOCK = threading.Lock()  # of the log


def _process(step: Step, run: Run, limit: float, events: Path, printed: Path) -> int | None:
    """The exit status of the step's process; None where it was stopped at its limit."""
    words = [step.path, str(events), "--device", run.device, "--seed", str(run.seed)]
    words += ["--tiny"] if run.tiny else []
    with printed.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu_rehearsal.child", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=_environment(step, run),
            process_group=0,
        )
        RUNNING.add(process.pid)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _kill(process.pid)
            process.wait()
            RUNNING.discard(process.pid)


RUNNING: set[int] = set()  # process groups


def _kill(group: int) -> None:
    """All that a step has started."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _environment(step: Step, run: Run) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if run.device == "cpu":
        own |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}  # two steps share the cores
        if step.interpreted:
            own["TRITON_INTERPRET"] = "1"  # Triton asks once, when it is imported
    return os.environ | own


def _cases(events: Path, *, whole: bool) -> list[dict[str, Any]]:
    """What the step told, by case; a case without an end was running when the process ended."""
    cases: dict[str, dict[str, Any]] = {}
    lines = events.read_text().splitlines() if events.is_file() else []
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # the process was killed while it wrote
        name = event.pop("case")
        case = cases.setdefault(name, {"case": name, "status": "unfinished", "figures": []})
        if figure := event.pop("figure", None):
            case["figures"].append(_judged(name, figure, whole))
        case |= event
    return list(cases.values())


def _judged(case: str, figure: dict[str, Any], whole: bool) -> dict[str, Any]:
    bar = BARS.get(f"{case}: {figure['what']}")
    if bar is None:
        return figure
    return figure | {"bar": bar.goal, "met": bar.met(figure["value"], whole)}


def _line(ended: dict[str, Any], run: Run, seconds: float) -> str:
    figures = [figure for case in ended["cases"] for figure in case["figures"]]
    took = f" in {ended['seconds']:.0f} s" if "seconds" in ended else ""
    word = f" ({ended['word'].splitlines()[0]})" if "word" in ended else ""
    missed = sum(figure.get("met") is False for figure in figures)
    bars = f", {missed} bars missed" if missed else ""
    what = f"{ended['step']} {ended['status']}{took}, {len(figures)} figures{bars}{word}"
    return f"[{seconds:5.0f} s] {run.card}: {what}"


def _write(folder: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = folder / f"{RECORD}.partial"
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / RECORD)
