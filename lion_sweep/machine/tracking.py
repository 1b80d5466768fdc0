"""Weights & Biases: one run per cell, offline where no key is there."""

import os
from pathlib import Path
from typing import Any, Literal

from lion_sweep.config.schema import Config, TrackerKind
from lion_sweep.errors import Interrupted


class Tracker:
    """What a cell tells its run; where there is none, nothing is recorded."""

    def __init__(self, run: Any = None) -> None:
        self.run = run

    def log(self, values: dict[str, float], step: int) -> None:
        """Values of one optimiser step, under train/."""
        if self.run:
            named = {f"train/{name}": value for name, value in values.items()}
            self.run.log(named | {"train/step": step})

    def summary(self, values: dict[str, Any]) -> None:
        """Final values, nested names joined with a slash."""
        if self.run:
            self.run.summary.update(values)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.run and kind is Interrupted:
            self.run.mark_preempting()  # the run goes on in the next attempt
        if self.run:
            self.run.finish(exit_code=0 if kind is None else 1)


def tracker(config: Config, cell_id: str, settings: dict[str, Any]) -> Tracker:
    """Of the run whose id is the cell's, so that a cell that goes on goes on in the same run."""
    if config.tracking.kind is TrackerKind.none:
        return Tracker()
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    folder = Path(config.paths.root) / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    mode: Literal["online", "offline"] = "online" if wandb.login(prompt=False) else "offline"
    run = wandb.init(
        project=config.tracking.project,
        group=config.tracking.group or f"{config.data.name}-{config.ladder.name}",
        id=cell_id,
        name=cell_id,
        resume="allow",
        mode=None if "WANDB_MODE" in os.environ else mode,
        config=settings,
        dir=folder,
        reinit="finish_previous",
    )
    run.define_metric("train/*", step_metric="train/step")
    return Tracker(run)
