"""A cell's identity and its folder.

The id hashes every value that can change the cell's numbers and nothing else: the machine, the
tracker and the paths stay out. It hashes the full configuration, not what differs from the
defaults, so that a changed default gives a new id.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lion_sweep.config import AXES, Config, plain
from lion_sweep.errors import UserError
from lion_sweep.stage import key_of, write_json

CONFIG = "config.yaml"
LEFT_OUT = ("site", "tracking", "paths", "plan", "status", "confirm")


def axes(config: Config) -> dict[str, str]:
    """The three choices that name a cell in every table."""
    return {axis: getattr(config, axis).name for axis in AXES}


def label(config: Config) -> str:
    """Axes joined, as in 1b-sparse-cl."""
    return "-".join(axes(config).values())


def specification(config: Config) -> dict[str, Any]:
    """All that can change the numbers of a cell, collection aside."""
    whole = plain(asdict(config))
    kept = {name: value for name, value in whole.items() if name not in LEFT_OUT}
    for key in ("tolerance", "confirm_gpu_hours", "anchor"):  # refusals change no cell; what an
        kept["budget"].pop(key)  # anchor comes to is budget.flops
    kept["recipe"].pop("flops_tolerance")
    for key in ("micro_batch_tokens", "gradient_cache"):  # how a step runs, not what it comes to
        kept["recipe"].pop(key)
    kept["model"].pop("full_shape")  # of planning alone
    for collection in (kept["data"], *kept["evaluation"]["sets"].values()):
        for key in ("path", "corpus", "queries", "qrels"):  # what they hold is the checksum
            collection.pop(key)
    return kept


def training_specification(config: Config, adapted: str, checksum: str) -> dict[str, Any]:
    """All that changes what training makes of the stage `adapted`: the specification of `train`.

    `checksum` is that of the collection which is trained on.
    """
    specified = specification(config)
    return {
        "adapt": adapted,
        "paradigm": plain(asdict(config.paradigm)),
        "loss": plain(asdict(config.loss)),
        "recipe": {
            name: value
            for name, value in specified["recipe"].items()
            if not name.startswith("evaluation")
        },
        "budget": specified["budget"],
        "teacher": plain(asdict(config.teacher)),
        "split": config.data.train_split,
        "collection": checksum,
        "seed": config.seed,
    }


def write_config(config: Config, folder: Path, on_top: dict[str, Any]) -> None:
    """Write `config.yaml` atomically: `on_top`, then every key of the configuration."""
    frozen = on_top | plain(asdict(config))
    temporary = folder / f".{CONFIG}.{os.getpid()}"
    temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(frozen)), encoding="utf-8")
    temporary.replace(folder / CONFIG)


def read_config(folder: Path) -> Config:
    """Read what `write_config` wrote, equal to what was written.

    Raises `UserError` for a configuration of another version.
    """
    frozen = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    known = {key: value for key, value in frozen.items() if key not in ("id", "axes")}
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), known))
    except OmegaConfBaseException as error:
        raise UserError(
            f"{folder / CONFIG} was written by another version of lion_sweep: "
            f"{str(error).splitlines()[0]}"
        ) from None
    assert isinstance(config, Config)
    return config


class Cell:
    """A cell and its folder: configuration, log, result, runs, per-query values."""

    def __init__(self, config: Config, contents: dict[str, str]) -> None:
        """`contents`: checksums of the collections that are scored, prepare.contents."""
        self.config, self.contents = config, contents
        self.checksum = contents[config.data.name]
        self.id = f"{label(config)}-{key_of([specification(config), contents])}"
        self.folder = Path(config.paths.root) / "cells" / self.id

    @property
    def result_path(self) -> Path:
        """Written last: a cell with this file is complete."""
        return self.folder / "result.json"

    @property
    def complete(self) -> bool:
        """Whether the cell has its result."""
        return self.result_path.is_file()

    def freeze(self) -> None:
        """Write the resolved configuration, with the axes and the id on top."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_config(self.config, self.folder, {"id": self.id, "axes": axes(self.config)})

    def read_result(self) -> dict[str, Any]:
        """The result of a complete cell."""
        result: dict[str, Any] = json.loads(self.result_path.read_text(encoding="utf-8"))
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Atomically."""
        write_json(self.result_path, result)
