"""Results of a chapter in one file, small enough for a repository: what tables are made of."""

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from lion_sweep.errors import UserError, sentence
from lion_sweep.files import written
from lion_sweep.result import RESULT

CELLS = "cells"
OF_RESULTS = (RESULT, "points.jsonl", "per_query/*")
OF_OTHERS = ("config.yaml", "task.json", "attempts/*")  # of cells that have no result


def keep(folder: Path, archive: Path) -> None:
    """Write what tables read of the cells below `folder`; the same results give the same bytes."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with written(archive) as partial, ZipFile(partial, "w", ZIP_DEFLATED, compresslevel=9) as made:
        for path in _read_by_tables(folder):
            made.writestr(_undated(path.relative_to(folder).as_posix()), path.read_bytes())


def _read_by_tables(folder: Path) -> Iterator[Path]:
    for cell in sorted((folder / CELLS).glob("*/")):
        wanted = OF_RESULTS if (cell / RESULT).is_file() else OF_OTHERS
        yield from sorted(path for one in wanted for path in cell.glob(one) if path.is_file())
    yield from sorted(folder.glob("shared/*/attempts/*"))


def _undated(name: str) -> ZipInfo:
    info = ZipInfo(name)  # of 1980
    info.compress_type, info.external_attr = ZIP_DEFLATED, 0o644 << 16
    return info


def unpack(archive: Path, folder: Path) -> None:
    """The reverse; names that lead out of `folder` stay in it. Raises `UserError` where the file is
    damaged."""
    try:
        with ZipFile(archive) as kept:
            kept.extractall(folder)
    except Exception as error:  # the library has one of its own for each way of being damaged
        said = f"{archive}: {sentence(error)}; give it again with --keep, or delete it."
        raise UserError(said) from error
