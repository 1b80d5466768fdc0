"""What an export starts from, and what a form of it has to say."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.cell.result import RESULT, Result, read_result
from lion_sweep.config import Config, changed
from lion_sweep.export.sample import Sample, Vectors
from lion_sweep.interop import checkpoints
from lion_sweep.interop.checkpoints import Checkpoint
from lion_sweep.stages.weights import MEANT_FOR, WEIGHTS


@dataclass(frozen=True)
class Finished:
    """A cell with its result, and the folder of the weights that its training wrote."""

    checkpoint: Checkpoint
    config: Config
    result: Result
    weights: Path

    @classmethod
    def read(cls, cell: Path) -> "Finished":
        """From the cell's folder. Raises `UserError` where it has no result, or no weights."""
        found, root = checkpoints.of_cell(cell), cell.parent.parent
        assert found.config is not None
        config = changed(found.config, {"paths.root": str(root)})
        result = read_result(cell / RESULT)
        weights = root / "stages" / result["stages"]["train"]["folder"] / WEIGHTS
        return cls(found, config, result, weights)

    def meant_for(self) -> dict[str, Any]:
        """What the vectors are and where they come from, for programs."""
        told: dict[str, Any] = json.loads((self.weights / MEANT_FOR).read_text(encoding="utf-8"))
        evaluation = self.config.evaluation
        return told | {
            # Cells that differ in these alone share their weights, so the weights may say others.
            "query_length": evaluation.query_length,
            "passage_length": evaluation.passage_length,
            "base": self.result["backbone"]["name"],
            "cell": self.result["id"],
        }


class Form(ABC):
    """One way to write a cell down for others."""

    def __init__(self, cell: Finished) -> None:
        self.cell = cell

    @property
    @abstractmethod
    def library(self) -> str:
        """What loads it, as the Hub calls it."""

    @property
    @abstractmethod
    def usage(self) -> list[str]:
        """Lines of the model card that tell how to load it; the folder is called FOLDER there."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write weights, tokenizer and settings to an empty folder."""

    @abstractmethod
    def vectors(self, folder: Path, sample: Sample) -> Vectors:
        """What whoever loads the folder gets for the texts of a sample."""
