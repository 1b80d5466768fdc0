"""Weights & Biases: one run per cell, offline where no key is there."""

import os
from pathlib import Path
from typing import Any, Literal

from lion_sweep.config.schema import Config, TrackerKind
from lion_sweep.errors import Interrupted


class Tracker:
    """What a cell tells a tracker; this one records nothing."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Values of one optimiser step."""

    def summary(self, values: dict[str, Any]) -> None:
        """Final values of the run."""

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The run is over, or was ended by an error."""


class WandbTracker(Tracker):
    """One run, whose id is the cell's, so that a cell that goes on goes on in the same run."""

    def __init__(self, config: Config, cell_id: str, settings: dict[str, Any]) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        folder = Path(config.paths.root) / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        mode: Literal["online", "offline"] = "online" if wandb.login(prompt=False) else "offline"
        self.run = wandb.init(
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
        self.run.define_metric("train/*", step_metric="train/step")

    def log(self, values: dict[str, float], step: int) -> None:
        """Values of one optimiser step, under train/."""
        self.run.log(
            {f"train/{name}": value for name, value in values.items()} | {"train/step": step}
        )

    def summary(self, values: dict[str, Any]) -> None:
        """Final values, nested names joined with a slash."""
        for name, value in values.items():
            self.run.summary[name] = value

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is Interrupted:
            self.run.mark_preempting()  # the run goes on in the next attempt
        self.run.finish(exit_code=0 if kind is None else 1)


def tracker(config: Config, cell_id: str, settings: dict[str, Any]) -> Tracker:
    """The tracker that the configuration asks for."""
    if config.tracking.kind is TrackerKind.none:
        return Tracker()
    return WandbTracker(config, cell_id, settings)
