"""Weights & Biases: one run per cell, offline where no key is there, and never a cell's failure."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lion_sweep.config.schema import Config, TrackerKind
from lion_sweep.errors import Interrupted, sentence

MODE, OFFLINE = "WANDB_MODE", "offline"
PATIENCE_SECONDS = "30"  # for the server's first answer; W&B itself would wait for 90

Say = Callable[[str], None]


class Tracker:
    """What a cell tells its run; where there is none, nothing is recorded."""

    def __init__(self, run: Any = None, say: Say = print) -> None:
        self.run, self.say = run, say

    def _tell(self, what: Callable[[Any], object]) -> None:
        """Tell the run, which hears no more once it has failed; that is said."""
        try:
            if self.run:
                what(self.run)
        except Exception as error:
            self.run = None
            self.say(f"no longer tracked: {sentence(error)}")

    def log(self, values: dict[str, float], step: int) -> None:
        """Values of one optimiser step, under train/."""
        named = {f"train/{name}": value for name, value in values.items()}
        self._tell(lambda run: run.log(named | {"train/step": step}))

    def summary(self, values: dict[str, Any]) -> None:
        """Final values, nested names joined with a slash."""
        self._tell(lambda run: run.summary.update(values))

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is Interrupted:
            self._tell(lambda run: run.mark_preempting())  # it goes on in the next attempt
        self._tell(lambda run: run.finish(exit_code=0 if kind is None else 1))


def tracker(config: Config, cell_id: str, settings: dict[str, Any], say: Say) -> Tracker:
    """Of the run whose id is the cell's, so that a cell that goes on goes on in the same run.

    Where none can be had it is offline, from this cell of the process on, or there is none.
    """
    if config.tracking.kind is TrackerKind.none:
        return Tracker()
    try:
        return Tracker(_begun(config, cell_id, settings), say)
    except Exception as error:
        if os.environ.get(MODE) == OFFLINE:
            say(f"not tracked: {sentence(error)}")
            return Tracker()
        say(f"tracked offline, as W&B cannot be had: {sentence(error)}")
    os.environ[MODE] = OFFLINE
    return tracker(config, cell_id, settings, say)


def _begun(config: Config, cell_id: str, settings: dict[str, Any]) -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_INIT_TIMEOUT", PATIENCE_SECONDS)
    import wandb

    folder = Path(config.paths.root) / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    asked: Any = os.environ.get(MODE) or ("online" if wandb.login(prompt=False) else OFFLINE)
    run = wandb.init(
        project=config.tracking.project,
        group=config.tracking.group or f"{config.data.name}-{config.ladder.name}",
        id=cell_id,
        name=cell_id,
        resume="allow",
        mode=asked,
        config=settings,
        dir=folder,
        reinit="finish_previous",
    )
    run.define_metric("train/*", step_metric="train/step")
    return run
