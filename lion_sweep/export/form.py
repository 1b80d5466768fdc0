"""What a form of export has to say, and the plain one: the weights as they were trained."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path

from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.export.sample import Sample, Vectors, encode
from lion_sweep.interop import checkpoints
from lion_sweep.interop.checkpoints import Checkpoint
from lion_sweep.interop.finished import Finished
from lion_sweep.stages.weights import WEIGHTS


class Form(ABC):
    """One way to write a cell down for others."""

    library: str  # what loads it, as the Hub calls it
    usage: tuple[str, ...] = ()  # lines of the card: how to load it from a folder called FOLDER

    def __init__(self, cell: Finished, checkpoint: Checkpoint) -> None:
        self.cell, self.checkpoint = cell, checkpoint

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write weights, tokenizer and settings to an empty folder."""

    @abstractmethod
    def vectors(self, folder: Path, sample: Sample) -> Vectors:
        """What whoever loads the folder gets for the texts of a sample."""


class Weights(Form):
    """A PEFT adapter, or the whole decoder, as training wrote it, and the tokenizer beside it."""

    def __init__(self, cell: Finished, checkpoint: Checkpoint) -> None:
        super().__init__(cell, checkpoint)
        self.library = "peft" if cell.config.recipe.lora else "transformers"

    def write(self, folder: Path) -> None:
        """Copy the weights."""
        shutil.copytree(self.cell.stage("train") / WEIGHTS, folder, dirs_exist_ok=True)
        tokenizer_of(self.checkpoint.source).save_pretrained(str(folder))

    def vectors(self, folder: Path, sample: Sample) -> Vectors:
        """As `python -m lion_sweep.evaluate` would load the folder."""
        config = self.cell.config
        base = self.checkpoint.source if config.recipe.lora else None
        return encode(checkpoints.find(str(folder), base, config, config.paradigm.name), sample)
