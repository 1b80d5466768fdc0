"""Faults of every kind, hundreds of them, at cells of every paradigm: nothing may come of it.

    python -m torture FOLDER --faults 1000 --seed 1 --report reports/torture.json

Lives of cells (lives.py) are lived in FOLDER, in two processes, until so many faults have struck or
--minutes are over. The report counts faults by kind, and lists what was lost, duplicated, or came
out otherwise, and errors that would tell a person nothing: the exit status is 0 where all of these
are empty and there were faults enough. With --planted there is a fault in lion_sweep as well (those
of planted.py), and the status is 0 as soon as it is noticed.
"""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import random
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torture import preload

PARADIGMS = (
    ["paradigm=sparse", "loss=clkd"],
    ["paradigm=dense", "loss=kd", "recipe.lora.rank=4", "recipe.embedding_rate=null"],
    ["paradigm=multi-vector", "loss=cl"],
)
BUDGET = ["model=1b", "budget.flops=4e9", "budget.tolerance=null", "alarms=none", "site=laptop"]
FAULTS_OF_A_LIFE = 40
PAIRS, TESTS = 80, 20
CELLS = 4  # of the grid on SLURM
NAMES = {
    "process": "job killed",
    "requeue": "job requeued",
    "node": "node down",
    "controller": "controller frozen",
}


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=29.0)
    parser.add_argument("--seed", type=int, default=1)
    said = "how many faults strike a grid on a private SLURM beside: jobs, nodes, the controller"
    parser.add_argument("--slurm", type=int, default=0, help=said)
    said = "plant a fault in lion_sweep, which has to be noticed"
    parser.add_argument("--planted", metavar="NAME", help=said)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", type=Path, default=Path("reports/torture.json"))
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if not preload.loaded():
        preload.become("torture", folder)
    shutil.rmtree(folder / "lives", ignore_errors=True)
    (folder / "lives").mkdir(parents=True)
    begun = time.monotonic()
    tally = _all(folder, asked, begun + 60 * asked.minutes)
    if asked.planted:
        first, *_, last = (tally.told or ["nothing was noticed"])[0].splitlines() * 2
        print(f"{asked.planted}: after {tally.faults.total()} faults: {first} {last}")
        return 0 if tally.told else 1
    if asked.slurm:
        _storm(tally, folder / "slurm", asked.slurm, asked.seed)
    report = {
        "command": f"python -m torture FOLDER --faults {asked.faults} --seed {asked.seed}"
        f" --slurm {asked.slurm}",
        "machine": f"{platform.system()}, {os.cpu_count()} cores",
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "lives": tally.lives,
        "attempts": tally.attempts,
        "faults": dict(sorted(tally.faults.items())) | {"all": sum(tally.faults.values())},
        "lost": len(tally.lost),
        "duplicated": len(tally.duplicated),
        "differing": len(tally.differing),
        "odd": len(tally.odd),
        "told": tally.told,
    }
    asked.report.parent.mkdir(parents=True, exist_ok=True)
    asked.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    enough = report["faults"]["all"] >= asked.faults
    return 0 if enough and not report["told"] else 1


def _all(folder: Path, asked: argparse.Namespace, until: float) -> Any:
    """The lives of all workers."""
    from torture.lives import Tally, undisturbed

    configs = list(_configs(folder))
    gc.freeze()  # what is here is every attempt's, and none has to look through it
    known = [undisturbed(one, folder / "lives" / f"known-{n}") for n, one in enumerate(configs)]
    if asked.planted:
        from torture.planted import PLANTED

        PLANTED[asked.planted]()
    context, share = multiprocessing.get_context("fork"), -(-asked.faults // asked.workers)
    told: Any = context.Queue()
    workers = [
        context.Process(
            target=_work, args=(told, n, share, until, folder, asked.seed, configs, known)
        )
        for n in range(asked.workers)
    ]
    for worker in workers:
        worker.start()
    found, alive = Tally(), len(workers)
    while alive:
        one = told.get()
        if one is None:
            alive -= 1
            continue
        found += one
        for said in (
            *one.told,
            f"{found.faults.total()} faults in {found.lives} lives, {len(found.told)} to look at",
        ):
            print(said, file=sys.stderr, flush=True)
        if asked.planted and found.told:
            break
    for worker in workers:
        if asked.planted:
            worker.terminate()
        worker.join()
    return found


def _storm(tally: Any, folder: Path, strikes: int, seed: int) -> None:
    """A grid of four cells on a private cluster, and what strikes it."""
    from devcluster.chaos import storm

    for name in ("LD_PRELOAD", *preload.SETTINGS):
        os.environ.pop(name, None)  # its processes are as a user's
    shutil.rmtree(folder, ignore_errors=True)
    words = ["-m", "paradigm=sparse,dense", "loss=cl,kd", "budget.flops=2e11", "tracking=none"]
    found = storm(folder, [*words, "budget.tolerance=null", "site.memory=600"], strikes, seed)
    for strike in found.strikes:
        tally.faults[f"SLURM: {NAMES[strike.split()[0]]}"] += 1
    tally.lives, tally.attempts = tally.lives + found.cells, tally.attempts + found.tries
    tally.differing.extend(found.different)
    if found.cells < CELLS:
        tally.lost.append(f"{CELLS - found.cells} cells of the grid on SLURM")


def _configs(folder: Path) -> Iterator[Any]:
    """A cell of each paradigm, settled; imports all that attempts need, once."""
    from support import TINY

    from lion_sweep import command
    from lion_sweep.config.site import SiteName
    from lion_sweep.data import pydoc
    from lion_sweep.data.collection import write
    from lion_sweep.machine.site import settle

    command.quiet()
    pairs = pydoc.collect(["json", "logging", "email"])[:PAIRS]
    shutil.rmtree(folder / "beir", ignore_errors=True)
    write(folder / "beir", {"train": pairs[:-TESTS], "test": pairs[-TESTS:]})
    for words in PARADIGMS:
        told = [*TINY, *BUDGET, *words, f"data.path={folder / 'beir'}"]
        own = {word.split("=")[0]: word for word in told}
        yield settle(command.composed(list(own.values())), SiteName.laptop)


def _work(told: Any, number: int, share: int, until: float, folder: Path, seed: int,
          configs: list[Any], known: list[Any]) -> None:  # fmt: skip
    """Lives of one worker, one after the other."""
    from torture.lives import Life

    drawn, faults, lived = random.Random(f"{seed} {number}"), 0, 0
    while faults < share and time.monotonic() < until:
        lived, which = lived + 1, drawn.randrange(len(configs))
        root = folder / "lives" / f"{number}-{lived}"
        life = Life(configs[which], root, drawn, known[which])
        try:
            tally = life.live(min(FAULTS_OF_A_LIFE, share - faults))
        except Exception:
            tally = life.tally
            tally.odd.append(f"{root.name}: {traceback.format_exc()[-1500:]}")
        faults += sum(tally.faults.values())
        told.put(tally)
        if not tally.told:
            for path in root.parent.glob(f"{root.name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    told.put(None)


if __name__ == "__main__":
    raise SystemExit(main())
