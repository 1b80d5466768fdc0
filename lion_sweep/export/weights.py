"""The weights as they were trained: a PEFT adapter, or the whole decoder."""

import shutil
from pathlib import Path

from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.export import sample
from lion_sweep.export.form import Form
from lion_sweep.export.sample import Sample, Vectors
from lion_sweep.interop import checkpoints


class Weights(Form):
    """What training wrote, the tokenizer beside it."""

    @property
    def library(self) -> str:
        """peft where an adapter was trained."""
        return "peft" if self.cell.config.recipe.lora else "transformers"

    @property
    def usage(self) -> list[str]:
        """Scoring it, which needs no more."""
        return []

    def write(self, folder: Path) -> None:
        """Copy the weights."""
        shutil.copytree(self.cell.weights, folder, dirs_exist_ok=True)
        tokenizer_of(self.cell.checkpoint.source).save_pretrained(str(folder))

    def vectors(self, folder: Path, texts: Sample) -> Vectors:
        """As `python -m lion_sweep.evaluate` would load the folder."""
        config = self.cell.config
        base = self.cell.checkpoint.source if config.recipe.lora else None
        found = checkpoints.find(str(folder), base, config, config.paradigm.name)
        return sample.encode(found, texts)
