"""A finished cell as it lies on a disk: configuration, result, and what is left of its stages."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lion_sweep.cell.result import RESULT, Result, read_result
from lion_sweep.config import Config, changed, read_config
from lion_sweep.errors import UserError


@dataclass(frozen=True)
class Finished:
    """A cell with its result; the folder of all outputs is where the cell's folder is now."""

    folder: Path
    result: Result

    @classmethod
    def read(cls, cell: Path, root: Path = Path("outputs")) -> "Finished":
        """By the cell's folder, or its id below `root`/cells.

        Raises `UserError` where there is no finished cell of this version.
        """
        folder = cell if cell.is_dir() else root / "cells" / cell
        if not (folder / RESULT).is_file():
            raise UserError(f"{folder} is not the folder of a cell with a result.")
        return cls(folder, read_result(folder / RESULT))

    @property
    def name(self) -> str:
        """Its id."""
        return self.folder.name

    @property
    def root(self) -> Path:
        """The folder of all outputs."""
        return self.folder.parent.parent

    @cached_property
    def config(self) -> Config:
        """As it was settled. Raises `UserError` where it is of another version."""
        return changed(read_config(self.folder), {"paths.root": str(self.root)})

    def stage(self, title: str) -> Path:
        """The folder of one of its stages, which may be gone."""
        return self.root / "stages" / self.result["stages"][title]["folder"]

    @property
    def source(self) -> str:
        """Folder or Hugging Face id of the decoder it adapted, whose tokenizer read the texts."""
        if "backbone" in self.result["stages"]:
            return str(self.stage("backbone"))
        source = self.config.model.backbone or self.config.model.full
        assert source is not None
        return source
