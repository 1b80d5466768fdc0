"""Weights & Biases: one run per cell, whose id is the cell's.

With a key a run is live; an attempt that goes on with the cell goes on with its run. Without one,
or where the server cannot be had, W&B cannot go on with a run: each attempt would leave a folder of
its own, and the last one synced replaces the others. So the run is written down once, whole, when
the cell ends, in place of any earlier one, and `wandb sync` makes the same run of it.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lion_sweep.errors import Interrupted, sentence
from lion_sweep.machine.tracked import FLOPS, SCORES, Say, Told, Tracked, once

MODE, ONLINE, OFFLINE = "WANDB_MODE", "online", "offline"
# For the server's first answer; W&B itself would wait for 90.
INIT_SECONDS = 30
# For what is not uploaded yet when a cell ends; W&B itself would wait for ever.
FINISH_SECONDS = 60
LONGEST_TAG, LARGEST_FILE = 64, 20 << 20
ARTIFACT = "result"  # the type of what the report reads
# Of the cell's folder, beside its result: what a report is made from.
FILES = ("history.jsonl", "points.jsonl", "per_query/*.json")

UNSENT = ("setup", "sbatch")  # of site.slurm


def artifact_name(cell: str) -> str:
    """Only some characters may stand in it."""
    return re.sub(r"[^\w.-]", "-", f"{cell}-result")


def wandb_run(cell: Tracked, say: Say) -> "WandbRun":
    """Live where a key is configured and the server answers, else offline, and how is said."""
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    mode: Any
    mode, why = os.environ.get(MODE), "no key is configured (wandb login)"
    if not mode:
        try:
            mode = ONLINE if wandb.login(prompt=False) else OFFLINE
        except Exception as error:
            mode, why = OFFLINE, f"W&B cannot be had: {sentence(error)}"
    else:
        why = f"{MODE}={mode}"
    if mode == OFFLINE:
        once(say, f"tracked offline, as {why}; to upload: {sync_command(cell.root)}")
    return WandbRun(cell, mode, say)


def sendable(config: Mapping[str, Any]) -> dict[str, Any]:
    """All but what jobs of a cluster are set up with: lines of a shell, which may hold secrets."""
    site = config.get("site")
    if not isinstance(site, Mapping) or not isinstance(site.get("slurm"), Mapping):
        return dict(config)
    slurm = {name: value for name, value in site["slurm"].items() if name not in UNSENT}
    return dict(config) | {"site": dict(site) | {"slurm": slurm}}


def sync_command(root: Path, cell: str = "") -> str:
    """What uploads the offline runs; of all cells, or of one."""
    return f"wandb sync {root / 'wandb'}/{OFFLINE}-run-*{cell and f'-{cell}'}"


class WandbRun:
    """A cell's run; `run` is None until it is begun."""

    def __init__(self, cell: Tracked, mode: Any, say: Say) -> None:
        self.cell, self.mode, self.say = cell, mode, say
        self.run: Any = None

    @property
    def whole(self) -> bool:
        """Offline runs are not gone on with."""
        return self.mode == OFFLINE

    def begin(self) -> int:
        """See `Backend`."""
        self.run = self._init()
        self.run.define_metric(FLOPS)
        for names in ("train/*", "points/*"):
            self.run.define_metric(names, step_metric=FLOPS)
        return max(0, self.run.starting_step - 1) if self.run.resumed else 0

    def _init(self) -> Any:
        import wandb

        self.cell.root.mkdir(parents=True, exist_ok=True)
        # Files of artifacts wait there to be uploaded, rather than in the home folder; those of an
        # earlier attempt go with its offline run.
        staged = self.cell.root.absolute() / "wandb" / "staged" / self.cell.id
        shutil.rmtree(staged, ignore_errors=True)
        os.environ["WANDB_DATA_DIR"] = str(staged)
        cell, (entity, _, project) = self.cell, self.cell.project.rpartition("/")
        return wandb.init(
            entity=entity or None,
            project=project,
            group=cell.group,
            job_type="cell",
            id=cell.id,
            name=cell.id,
            tags=[tag[:LONGEST_TAG] for tag in cell.tags],
            resume=None if self.whole else "allow",
            mode=self.mode,
            config=sendable(cell.config),
            dir=cell.root.absolute(),
            reinit="finish_previous",
            settings=wandb.Settings(
                console="off",  # a cell has a log of its own
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
                x_disable_stats=self.whole,  # of the moment at which it is written down
            ),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See `Backend`."""
        self.run.log(dict(values), step=step)

    def instead(self) -> "WandbRun | None":
        """An offline run that has it all, for which what was uploaded makes place when synced."""
        if self.whole:
            return None
        with suppress(Exception):  # it may be what has failed
            self.run.finish(exit_code=1)
        os.environ[MODE] = OFFLINE  # the next cells need not wait as long
        once(self.say, f"tracked offline; to upload: {sync_command(self.cell.root)}")
        return WandbRun(self.cell, OFFLINE, self.say)

    def end(self, told: Told, error: type[BaseException] | None) -> None:
        """See `Backend`; raises what W&B does where it could not upload everything in time."""
        run, folder = self.run, Path(self.run.dir).parent
        if told.planned:
            run.config.update({"planned": dict(told.planned)}, allow_val_change=True)
        if error is not None and issubclass(error, Interrupted):
            run.mark_preempting()
        if told.result is not None:
            self._scores(told, told.result)
        run.finish(exit_code=0 if error is None else 1)
        if self.whole:
            for old in folder.parent.glob(f"{OFFLINE}-run-*-{self.cell.id}"):
                if old.resolve() != folder.resolve():
                    shutil.rmtree(old, ignore_errors=True)

    def _scores(self, told: Told, result: Mapping[str, Any]) -> None:
        import wandb

        self.run.summary.update(dict(told.summary))
        self.run.summary["scores"] = wandb.Table(columns=list(SCORES), data=told.scores)
        self.run.log_artifact(self._artifact(result))

    def _artifact(self, result: Mapping[str, Any]) -> Any:
        """The result, and the small files that a report reads beside it."""
        import wandb

        axes = {"cell": self.cell.id, "ladder": result["ladder"], "data": result["data"]}
        made = wandb.Artifact(artifact_name(self.cell.id), ARTIFACT, metadata=axes)
        with made.new_file("result.json", encoding="utf-8") as file:
            json.dump(dict(result) | {"config": sendable(result["config"])}, file, indent=2)
        for path in sorted(path for part in FILES for path in self.cell.folder.glob(part)):
            if path.stat().st_size <= LARGEST_FILE:
                made.add_file(str(path), name=path.relative_to(self.cell.folder).as_posix())
        return made
