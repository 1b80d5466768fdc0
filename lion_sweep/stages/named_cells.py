"""Finished cells that a configuration names, as teachers or miners: looked up before any work."""

from pathlib import Path
from typing import Any

from lion_sweep.config import Config, changed
from lion_sweep.config.classes import class_named
from lion_sweep.errors import UserError
from lion_sweep.stages.finished_weights import FinishedWeights
from lion_sweep.stages.index import TARGET, class_of, engine_of
from lion_sweep.stages.scorer_cell import Cell


def settled_cells(config: Config) -> Config:
    """With an id, or a folder elsewhere, for every finished cell that is read.

    What is named by its axes would be ambiguous as soon as another cell of the same ones ends. A
    cell that was trained on another collection may teach, or mine: it is said. Raises `UserError`
    where there is no such cell, its weights are gone, or what searches it is not on this machine.
    """
    values: dict[str, Any] = {}
    if config.loss.needs_teacher or config.negatives.scored:
        scorers = dict(config.teacher.scorers)
        for name, told in scorers.items():
            if told["weight"] and issubclass(class_named(told[TARGET]), Cell):
                key = f"teacher.scorers.{name}.cell"
                scorers[name] = {**told, "cell": _settled(key, told["cell"], config)}
        values["teacher.scorers"] = scorers
    if (miner := config.negatives.cell) is not None:
        values["negatives.cell"] = _settled("negatives.cell", miner, config, searches=True)
    return changed(config, values)


def _settled(key: str, name: str, config: Config, *, searches: bool = False) -> str:
    root = Path(config.paths.root)
    try:
        cell = FinishedWeights.named(name, root).cell
    except UserError as error:
        raise UserError(f"{key}={name}: {error}") from None
    if searches:
        engine = class_of(engine_of(cell.config, cell.config.paradigm.made_by.kind))
        if missing := engine.missing():
            raise UserError(f"{key}={name} is searched by {engine.__name__}: {missing}.")
    if cell.result["data"] != config.data.name:
        print(
            f"{key}={cell.name} was trained on {cell.result['data']}, and reads "
            f"{config.data.name} here.",
            flush=True,
        )
    return cell.name if cell.root.resolve() == root.resolve() else str(cell.folder.resolve())
