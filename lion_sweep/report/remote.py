"""Results of cells that ran elsewhere, as their runs left them on Weights & Biases."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lion_sweep.errors import UserError, sentence
from lion_sweep.result import RESULT

SOURCE = re.compile(r"wandb:([\w.-]+)/([\w.-]+)")
TYPE = "result"  # of artifacts, see machine/wandb_run.py
FOLDER = "remote"  # below the folder of outputs
# Of a cell; no name leads out of the folder of cells.
ID = re.compile(r"[\w+-][\w .+-]*")


def fetch(source: str, root: Path) -> Path:
    """Download the newest result of every cell of `wandb:ENTITY/PROJECT`.

    Returns a folder like one of outputs, below `root`, that holds them and nothing else. Raises
    `UserError` where W&B cannot be asked, or has none.
    """
    match = SOURCE.fullmatch(source)
    if not match:
        raise UserError(f"--from={source} is no source: write wandb:ENTITY/PROJECT.")
    entity, project = match.groups()
    folder = root / FOLDER / f"{entity}-{project}"
    try:
        found = list(_artifacts(f"{entity}/{project}"))
    except Exception as error:
        raise UserError(
            f"{source} cannot be read ({sentence(error)}): is it written so, is the network there, "
            "and has `wandb login` been done?"
        ) from None
    if not found:
        raise UserError(
            f"{source} holds no results: cells leave them there when they end, with tracking=wandb "
            "(after `wandb sync`, where they were tracked offline)."
        )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for number, artifact in enumerate(found, start=1):
        _download(artifact, partial / "cells")
        print(f"\r{source}: {number} of {len(found)} results", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    shutil.rmtree(folder / "cells", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (partial / "cells").rename(folder / "cells")
    partial.rmdir()
    return folder


def _artifacts(project: str) -> Iterator[Any]:
    """The newest version of each."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    api = wandb.Api()
    if TYPE not in (kind.name for kind in api.artifact_types(project)):
        return
    for collection in api.artifact_collections(project, TYPE):
        yield api.artifact(f"{project}/{collection.name}:latest", type=TYPE)


def _download(artifact: Any, cells: Path) -> None:
    """Into a folder called as the cell is."""
    cell = str(artifact.metadata.get("cell", ""))
    if not ID.fullmatch(cell):
        raise UserError(f"{artifact.name} does not say of which cell it is ({cell!r}).")
    try:
        artifact.download(root=str(cells / cell), skip_cache=True)
    except Exception as error:
        raise UserError(f"{artifact.name} cannot be downloaded: {sentence(error)}") from None
    if not (cells / cell / RESULT).is_file():
        raise UserError(f"{artifact.name} holds no {RESULT}: it was not left by a cell.")
