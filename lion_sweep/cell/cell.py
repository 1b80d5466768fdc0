"""A cell: one configuration, the stages that it comes to, and its folder.

The id hashes the stages whose scores the result tells, hence everything that can change a number,
and nothing else: nobody lists a key of the configuration. What the scores are called stands in it
too, because a result tells that as well.
"""

from collections.abc import Sequence
from pathlib import Path

from lion_sweep.cell.names import axes, full_names, label, settings
from lion_sweep.config import Config
from lion_sweep.files import key_of, sealed, write_json
from lion_sweep.result import RESULT, Result, read_result
from lion_sweep.stages.of_cell import CellStages


def cell_names(cells: Sequence["Cell"]) -> list[str]:
    """What tells each of the cells apart from the others."""
    return full_names([(label(cell.config), cell.id, settings(cell.config)) for cell in cells])


class Cell:
    """A cell and its folder: configuration, log, result, runs, per-query values."""

    def __init__(self, config: Config, stages: CellStages) -> None:
        self.config, self.stages = config, stages
        told = {
            "scores": stages.identity,
            "axes": axes(config),
            "ladder": config.ladder.name,
            "seed": config.seed,
            "data": config.data.name,
            "groups": {name: config.evaluation.own(name).group for name in stages.sets},
            "permutations": config.evaluation.permutations,
        }
        self.id = f"{label(config)}-{key_of(told)}"
        self.folder = Path(config.paths.root) / "cells" / self.id

    @property
    def result_path(self) -> Path:
        """Written last: a cell with this file is complete."""
        return self.folder / RESULT

    @property
    def complete(self) -> bool:
        return self.result_path.is_file()

    def read_result(self) -> Result:
        """The result of a complete cell. Raises `UserError` where it is of another version."""
        return read_result(self.result_path)

    def write_result(self, result: Result) -> None:
        write_json(self.result_path, sealed(result))
