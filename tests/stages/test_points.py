"""Whose queries a training is evaluated on: never those that cells are scored on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lion_sweep.cell.cell import Cell
from lion_sweep.data.collection import write
from lion_sweep.errors import UserError
from lion_sweep.machine.progress import Progress
from lion_sweep.stages.workshop import Workshop

SmallCell = Callable[..., Cell]


@pytest.fixture
def with_dev(tmp_path: Path) -> Path:
    """A collection of three splits, of whose dev queries some are scored as well."""
    pairs = [(f"query {n} of words", f"passage {n} with other words") for n in range(30)]
    folder = tmp_path / "collection"
    write(folder, {"train": pairs[:14], "dev": pairs[14:22], "test": pairs[22:]})
    with (folder / "qrels" / "dev.tsv").open("a") as file:
        file.write("".join(f"q{n}\td{n}\t1\n" for n in range(22, 26)))
    return folder


def asked(cell: Cell, root: Path) -> tuple[str, set[str]]:
    """The split, and ids of the queries."""
    points = cell.stages.train.points
    assert points
    shop = Workshop(root, Progress("cell", None))
    ids = points.judged.queries.read(shop).ids
    read = points.read(shop)
    assert read
    return points.split, {ids[int(row)] for row in read.query_Q}


def test_which_queries_are_asked(
    small_cell: SmallCell, small_root: Path, with_dev: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = f"data.path={with_dev}"
    assert asked(small_cell(own), small_root) == ("dev", {f"q{n}" for n in range(14, 22)})
    assert "trained" not in capsys.readouterr().out
    split, ids = asked(small_cell(own, "tracking.split=train"), small_root)
    assert (split, ids) == ("train", {f"q{n}" for n in range(14)})
    assert "evaluated while training on 14 of its own queries" in capsys.readouterr().out
    assert small_cell(own, "tracking.points=0").stages.train.points is None
    (with_dev / "qrels" / "dev.tsv").unlink()
    split, ids = asked(small_cell(own), small_root)
    assert (split, ids) == ("train", {f"q{n}" for n in range(14)})
    assert capsys.readouterr().out == ""  # one cell of a process says it


def test_what_is_refused(small_cell: SmallCell, with_dev: Path) -> None:
    own = f"data.path={with_dev}"
    with pytest.raises(UserError, match=r"tracking\.split=test is the split that cells are scored"):
        small_cell(own, "tracking.split=test")
    with pytest.raises(UserError, match=r"qrels/other\.tsv is missing"):
        small_cell(own, "tracking.split=other")
