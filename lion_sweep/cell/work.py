"""Doing a task in this process: what every launcher comes down to, on a laptop or in a job.

A cell is adapted, trained, encoded, searched and scored. On a cluster its training and a share of
its encoding may be jobs of their own; the cell's job finds what they have done, and does the rest.
"""

import os
import platform
import subprocess
import traceback
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lion_sweep.cell.cell import Cell
from lion_sweep.cell.names import axes
from lion_sweep.cell.prepare import prepare, teach
from lion_sweep.cell.tasks import (
    ADAPT,
    CELL,
    ENCODE,
    NEGATIVES,
    PREPARE,
    TEACHER,
    TRAIN,
    WHEREABOUTS,
    Attempt,
    Task,
)
from lion_sweep.config import Config
from lion_sweep.config.section import plain
from lion_sweep.config.site import SiteName
from lion_sweep.cost.meter import Spending
from lion_sweep.evaluation.measures import mean
from lion_sweep.evaluation.significance import paired_randomisation
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.history import HISTORY, POINTS, copy_records
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.seal import files_of
from lion_sweep.machine.site import world_size
from lion_sweep.machine.tracked import Tracked
from lion_sweep.machine.tracking import Tracker, tracker
from lion_sweep.result import FORMAT, Result
from lion_sweep.stages import engine
from lion_sweep.stages.base import Stage
from lion_sweep.stages.engine import Done, Team
from lion_sweep.stages.of_cell import stages_of
from lion_sweep.stages.search import Scores, keep
from lion_sweep.stages.workshop import Workshop

# Packages that compute: their versions, and the environment, stand in no key.
PACKAGES = (
    "torch", "transformers", "tokenizers", "peft", "accelerate", "numpy", "scipy", "numba",
    "PyStemmer", "ranx", "wordllama",
)  # fmt: skip
KEPT = "runs/*", "per_query/*", HISTORY, POINTS  # of a cell, beside its result


def machine() -> SiteName:
    return SiteName.gpu if torch.cuda.is_available() else SiteName.laptop


def do(task: Task, site: SiteName, job: str = "", team: Team | None = None) -> Progress:
    """Do what of the task is left to do; returns its progress, which can still say something.

    An attempt is recorded from the first to the last moment, whatever happens. A job (`job` is the
    scheduler's name for it) takes over from earlier attempts, which the scheduler has given up; a
    command waits for another one that does the same. Raises what ended it: `Interrupted` and
    `Superseded` are no failures.
    """
    # A stage may be given fewer devices than its cell: those that are here are what counts.
    team, how = team or Team(), replace(Execution.of(task.config, site), devices=world_size())
    if not team.leads:
        progress = Progress(task.label, None)
        try:
            _do(task, Workshop(task.root, progress, how, team=team))
        except Exception as error:
            if leaders := Attempt.last(task.folder, job):
                leaders.end(error)
            raise
        return progress
    attempt = Attempt.begin(task.folder, job, task.config.site.attempts)
    log = task.folder / "log.txt"
    progress = Progress(task.label, log, task.folder / WHEREABOUTS)
    try:
        if job:
            engine.fence_off(task.root, task.name)
        _do(task, Workshop(task.root, progress, how, owner=task.name, team=team))
    except BaseException as error:
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        attempt.end(error)
        raise
    attempt.end(None)
    return progress


def _do(task: Task, shop: Workshop) -> None:
    if task.kind in (PREPARE, TEACHER):
        {PREPARE: prepare, TEACHER: teach}[task.kind](task, shop)
        return
    stages = stages_of(task.config, shop)
    cell = Cell(task.config, stages)
    todo: dict[str, Stage] = {ADAPT: stages.adapt, TRAIN: stages.train}
    todo[NEGATIVES] = stages.groups
    if task.kind == ENCODE:
        todo[ENCODE] = stages.encoding_jobs(task.config.site.encode_jobs)[task.number - 1]
    stage = todo.get(task.kind)
    task.check(cell.id if task.kind == CELL else stage.name if stage else None)
    if task.kind == TRAIN:
        with _tracked(cell, shop) as track:
            track.follow(shop.folder(stages.train))
    elif stage:
        shop.run(stage)
    else:
        result = run(cell, shop)
        if shop.team.leads:
            cell.write_result(result)


def _tracked(cell: Cell, shop: Workshop) -> Tracker:
    """The tracker, which hears of every step from now on."""
    config, how = cell.config, shop.execution
    if not how.leads:
        return Tracker()
    peak, tracking = how.device.peak_flops, config.tracking
    grid = f"{config.data.name}-{config.ladder.name}"
    told = axes(config) | {"ladder": config.ladder.name, "data": config.data.name}
    tags = tuple(f"{name}={value}" for name, value in (told | {"seed": config.seed}).items())
    where = tracking.project, tracking.group or grid, Path(config.paths.root), cell.folder
    # Groups and filters of dashboards want them flat.
    flat = {f"axis_{name}": value for name, value in axes(config).items()}
    known = plain(config) | flat | {"cell": cell.id}
    peak = None if peak is None else peak * how.devices
    track = tracker(config, Tracked(cell.id, *where, known, tags, peak), shop.progress.say)
    shop.on_record = track.follow
    return track


def run(cell: Cell, shop: Workshop) -> Result:
    """All stages of a cell; writes its runs and per-query values, returns its result."""
    config, stages, own, how = cell.config, cell.stages, cell.config.data.name, shop.execution
    with _tracked(cell, shop) as track:
        # A teacher that is refused costs no adapted weights.
        audit = shop.run(stages.audit).facts if stages.audit else {}
        done = {"adapt": shop.run(stages.adapt), "train": shop.run(stages.train)}
        trained = done["train"].facts
        track.follow(done["train"].folder, trained["planned"])
        before = stages.untrained.run(shop)
        scores = {name: scored.run(shop) for name, scored in stages.trained.items()}
        references = {name: score.scores(shop) for name, score in stages.bm25.items()}
        if how.leads:
            keep(shop, cell.folder, stages.trained, stages.bm25)
            copy_records(done["train"].folder, cell.folder)
        if stages.teacher:
            done["teacher"] = shop.run(stages.teacher)
        groups = shop.run(stages.groups)
        if "spent" in groups.facts:
            done["negatives"] = groups
        encoded = [e for found in stages.trained.values() for e in (found.passages, found.queries)]
        once = {encode.name: shop.run(encode) for encode in encoded}
        result = Result(
            format=FORMAT,
            id=cell.id,
            axes=axes(config),
            config=plain(config),
            ladder=config.ladder.name,
            seed=config.seed,
            data=own,
            site=how.site.name,
            precision=config.recipe.precision.name,
            device={
                "name": how.device.name,
                "peak_flops": how.device.peak_flops,
                "count": trained["devices"],  # those that trained
                "train_seconds": trained["seconds"],
            },
            backbone={
                "name": stages.blueprint.name,
                "start": stages.blueprint.start,
                "parameters": shop.run(stages.trained[own].passages).facts["parameters"],
                "embeddings": stages.blueprint.embeddings,
            },
            teacher=plain(config.teacher) if stages.teacher else None,
            teacher_audit=audit,
            scores={name: mean(values) for name, values in scores.items()},
            untrained={own: mean(before)},
            gain={own: _gain(config, scores[own], before)},
            bm25={name: mean(values) for name, values in references.items()},
            entropy={name: found.entropy.mean(shop) for name, found in stages.trained.items()},
            untrained_entropy={own: stages.untrained.entropy.mean(shop)},
            efficiency={name: found.efficiency(shop) for name, found in stages.trained.items()},
            topk={name: found.curve(shop) for name, found in stages.trained.items() if found.topk},
            ledger={n: _ledger(d) for n, d in done.items()} | {"encode": _spent(once.values())},
            stages=_stages(cell, shop),
            collections={
                name: {"group": config.evaluation.own(name).group} | source.read(shop).facts(split)
                for name, (source, split) in stages.sets.items()
            },
            groups={what: n for what, n in groups.facts.items() if isinstance(n, int)},
            points=_points(trained),
            versions={"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
            environment=environment(),
            files=files_of(cell.folder, KEPT) if how.leads else {},
        )
        track.finished(result)
    return result


def _gain(config: Config, after: Scores, before: Scores) -> dict[str, float | None]:
    measure, chance = next(iter(after)), (config.evaluation.permutations, config.seed)
    p = paired_randomisation(after[measure], before[measure], *chance)
    return {measure: mean(after)[measure] - mean(before)[measure], "p": p}


def _points(trained: dict[str, Any]) -> dict[str, Any]:
    """Whom evaluations while training asked, and what these and looks for alarms took, if any."""
    took = trained["evaluated"]
    return trained.get("points", {}) | (took if took["seconds"] else {})


def _ledger(done: Done) -> dict[str, Any]:
    """Of one stage; with useful FLOPs of its parts, by folder, where cells share these."""
    return _spent([done]) | {key: done.facts[key] for key in ("parts",) if key in done.facts}


def _spent(done: Collection[Done]) -> dict[str, Any]:
    return {
        kind: sum((Spending(**one.facts[kind]) for one in done), Spending()).as_dict()
        for kind in ("planned", "spent")
    }


def _stages(cell: Cell, shop: Workshop) -> dict[str, dict[str, Any]]:
    """Folder, seconds and whether it was there before; null where a folder is gone since."""
    found = {}
    for title, stage in cell.stages.roles.items():
        done = shop.find(stage)
        seconds, reused = (done.seconds, done.reused) if done else (None, None)
        found[title] = {"folder": stage.name, "seconds": seconds, "reused": reused}
    return found


def environment() -> dict[str, Any]:
    """Processor, threads, system and code: what else could make two machines differ."""
    cuda = torch.cuda.is_available()
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "blas_kernel": os.environ.get("OPENBLAS_CORETYPE"),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "system": platform.platform(),
        **_code(),
    }


def _cores() -> int | None:
    """Those that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _processor() -> str:
    told = Path("/proc/cpuinfo")  # of Linux alone
    lines = told.read_text().splitlines() if told.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor()


@cache
def _code() -> dict[str, Any]:
    """The commit of the code and whether its tree was changed since; None outside a checkout."""
    root = Path(__file__).parent.parent.parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    if (root / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):
            changes = git("status", "--porcelain", "--", "lion_sweep")
            return {"commit": git("rev-parse", "HEAD"), "changed": bool(changes)}
    return {"commit": None, "changed": None}
