"""A finished cell as it lies on a disk: configuration, result, and what is left of its stages."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from lion_sweep.config import Config, changed, read_config
from lion_sweep.errors import UserError
from lion_sweep.machine.digests import DIGESTS
from lion_sweep.machine.seal import Seals
from lion_sweep.result import RESULT, Result, of_another, read_result
from lion_sweep.stages import engine

SHOWN = 5  # cells that a message lists


@dataclass(frozen=True)
class Finished:
    """A cell with its result; the folder of all outputs is where the cell's folder is now."""

    folder: Path
    result: Result

    @classmethod
    def read(cls, cell: Path | str, root: Path = Path("outputs")) -> Self:
        """By its folder, its id below `root`/cells, or its axes as in `8b-dense-clkd`.

        Raises `UserError` where there is no finished cell of this version, or where several are
        called so.
        """
        folder = _folder(Path(cell), root)
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

    def intact(self, title: str) -> Path:
        """The same, for who reads it. Raises `Damaged` where it does not hold what it did."""
        folder = self.stage(title)
        if done := engine.find(folder):
            Seals(self.root / DIGESTS).check(folder, done.files)
        return folder

    @property
    def source(self) -> str:
        """Folder or Hugging Face id of the decoder it adapted, whose tokenizer read the texts."""
        if "backbone" in self.result["stages"]:
            return str(self.stage("backbone"))
        source = self.config.model.backbone or self.config.model.full
        assert source is not None
        return source


def _folder(cell: Path, root: Path) -> Path:
    """Of a finished cell."""
    if (cell / RESULT).is_file():
        return cell
    cells, name = root / "cells", str(cell)
    there = [path.parent for path in sorted(cells.glob(f"*/{RESULT}"))]
    if same := [folder for folder in there if folder.name == name]:
        return same[0]
    called = [folder for folder in there if folder.name.rpartition("-")[0] == name]
    # Those of another version are no choice, unless there is nothing else to say so of.
    called = [folder for folder in called if not of_another(folder / RESULT)] or called
    if len(called) > 1:
        raise UserError(
            f"{len(called)} finished cells in {cells} are called {name}: say which one by its id, "
            f"{_listed(called)}."
        )
    if called:
        return called[0]
    begun = cell if cell.is_dir() else cells / cell
    if begun.is_dir():
        raise UserError(
            f"{begun} is not the folder of a cell with a result: the command that began the cell, "
            "given again, finishes it."
        )
    raise UserError(
        f"{name} is not the folder of a cell with a result, nor the id or the name of a finished "
        f"one in {cells}, which has {_listed(there) or 'none'}."
    )


def _listed(folders: list[Path]) -> str:
    names = [folder.name for folder in folders]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
