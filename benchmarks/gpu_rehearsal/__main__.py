"""The command: options, what is refused, a line per step, the table, the exit status."""

import argparse
import re
import secrets
import signal
import sys
from pathlib import Path

from benchmarks.gpu_rehearsal import packages
from benchmarks.gpu_rehearsal.steps import STEPS, Step

SECONDS = 520
EPILOG = "Status 0: nothing failed and every result was right; 1: something did; 2: bad options."


def _names(text: str) -> list[str]:
    names, known = text.split(","), [step.name for step in STEPS]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(
            f"no step is called {', '.join(unknown)}: choose of {', '.join(known)}"
        )
    return names


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_rehearsal",
        description="All that only a GPU can show, in the order of its worth.",
        epilog=EPILOG,
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes: does everything run?")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all steps")
    parser.add_argument("--only", type=_names, metavar="STEP,STEP", help="leave out all others")
    parser.add_argument("--skip", type=_names, metavar="STEP,STEP", default=[])
    parser.add_argument("--out", type=Path, help="folder; benchmarks/results/gpu/<card> by default")
    options = parser.parse_args(words)
    if options.device == "cpu" and not options.tiny:
        parser.error("full sizes need a GPU: add --tiny to --device cpu")
    if options.seconds <= 0:
        parser.error(f"--seconds {options.seconds:g} leaves no time: 520 are enough for all steps")
    if lacking := packages.missing(packages.EVERY):
        parser.error(
            f"not installed, and every step needs it: {', '.join(lacking)} "
            "(benchmarks/gpu_rehearsal/packages.py says what has to travel)"
        )
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            f"torch {torch.__version__} finds no CUDA device: run this where there is a GPU, or "
            "see whether every step runs at all with --device cpu --tiny"
        )
    return options


def _chosen(options: argparse.Namespace) -> list[Step]:
    return [
        step
        for step in STEPS
        if step.name in (options.only or [step.name]) and step.name not in options.skip
    ]


def main(words: list[str] | None = None) -> int:
    """The exit status."""
    options = _options(words)
    from benchmarks.gpu_rehearsal import table  # these import torch, which may not be there
    from benchmarks.gpu_rehearsal.driver import Run, rehearse
    from benchmarks.gpu_rehearsal.target import card

    name = card(options.device)
    steps = _chosen(options)
    for step in steps:
        if lacking := packages.missing(step.needs):
            print(
                f"not installed: {', '.join(lacking)}; step {step.name} fails without", flush=True
            )
    folder = options.out or _folder(name, options)
    run = Run(
        options.device, options.tiny, options.seconds, folder, secrets.randbelow(1 << 31), name
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: steps are stopped too
    record = rehearse(run, steps, lambda line: print(line, flush=True))
    print(f"\n{table.summary(record, [step.name for step in steps])}")
    print(f"\n{folder / 'rehearsal.json'}, {folder / 'rehearsal.log'}")
    return int(table.failed(record))


def _folder(card: str, options: argparse.Namespace) -> Path:
    """Results that are kept are those of whole sizes on a GPU."""
    if options.tiny:
        return Path("outputs") / "gpu_rehearsal"
    from benchmarks.gpu_rehearsal.table import GPU_RESULTS

    return GPU_RESULTS / re.sub(r"[^A-Za-z0-9]+", "-", card).strip("-").lower()


if __name__ == "__main__":
    sys.exit(main())
