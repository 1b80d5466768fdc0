"""A finished cell as teacher and as source of negatives, against its own vectors in float64.

Shapes: Q queries, N passages, D dimensions or vocabulary, R rows that steps draw, G = 1 +
negatives, P training pairs, M candidates of a pair.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from stage_contents import done

from lion_sweep.cell.cell import Cell
from lion_sweep.config.site import SiteName
from lion_sweep.cost.meter import Spending
from lion_sweep.data import drawn as parts_of_steps
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import Interrupted, UserError
from lion_sweep.files import read_json
from lion_sweep.machine import interruption
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.search.parts import Stored
from lion_sweep.stages import groups as stage_of_groups
from lion_sweep.stages import scorer_cell
from lion_sweep.stages.encode import VECTORS
from lion_sweep.stages.filtered import Filter, without_false
from lion_sweep.stages.finished_cell import Finished
from lion_sweep.stages.groups import GROUPS, MineByCell
from lion_sweep.stages.teacher import SCORES
from lion_sweep.stages.workshop import Workshop

SmallCell = Callable[..., Cell]
Once = Callable[..., Path]
SHORT = ["budget=steps", "budget.steps=3", "recipe.precision=fp32", "tracking.points=0"]
DEPTH = 9


@pytest.fixture
def root(once: Once, small_cell: SmallCell) -> Path:
    """Two finished cells of the tiny collection, a dense and a sparse one."""

    def make(folder: Path) -> None:
        for paradigm in ("dense", "sparse"):
            words = ["loss=cl", f"paradigm={paradigm}", f"paths.root={folder}"]
            done(small_cell(*SHORT, *words))

    return once("finished", make)


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The same outputs at a place of their own."""
    return Path(shutil.copytree(root, tmp_path / "out"))


def workshop(cell: Cell) -> Workshop:
    """Where the stages of a cell are done."""
    config = cell.config
    how = Execution.of(config, SiteName.laptop)
    return Workshop(Path(config.paths.root), Progress("cell", None), how)


def taught(small_cell: SmallCell, root: Path, *words: str) -> Cell:
    """A student of a finished cell."""
    mixed = ["loss=kd", "paradigm=dense", "teacher=cell", f"paths.root={root}"]
    return small_cell(*SHORT, *mixed, *words)


def mined(small_cell: SmallCell, root: Path, cell: str, *words: str) -> Cell:
    """A cell whose negatives a finished one finds."""
    own = ["loss=cl", "paradigm=dense", f"recipe.negative_depth={DEPTH}", f"paths.root={root}"]
    return small_cell(*SHORT, *own, "negatives.engine=cell", f"negatives.cell={cell}", *words)


def vectors(root: Path, cell: str, what: str) -> NDArray[np.float64]:
    """What the finished cell itself was searched by, [N, D]."""
    folder = Finished.read(cell, root).stage(f"encode {what} twin") / VECTORS
    found = Stored(folder).all()
    return np.asarray(found.todense() if sparse.issparse(found) else found, np.float64)


@pytest.mark.parametrize("teacher", ["1b-dense-cl", "1b-sparse-cl"])
def test_it_teaches_the_scores_that_its_losses_read(
    small_cell: SmallCell, copy: Path, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the rounding of fp32; every text once, over several parts, at the cost that was planned."""
    monkeypatch.setattr(parts_of_steps, "FIRST", 40)  # of one step
    cell = taught(small_cell, copy, f"teacher.scorers.cell.cell={teacher}")
    teach, shop = cell.stages.teacher, workshop(cell)
    assert teach is not None
    facts = shop.run(teach).facts
    found_RG = np.load(shop.folder(teach) / SCORES)
    step = teach.course.draws.sampler(shop).first(facts["steps"])
    finished = Finished.read(teacher, copy)
    passage_ND = vectors(copy, teacher, "passages")
    [scorer] = (one.scorer for one in teach.scorers)
    query_QD = encoded(scorer, shop, step.query_B)
    expected_RG = np.einsum("rd,rgd->rg", query_QD, passage_ND[step.passage_BG])
    expected_RG /= finished.config.paradigm.temperature
    np.testing.assert_allclose(found_RG, expected_RG, rtol=2e-5, atol=1e-5)
    paid = teach.paid(shop, 3)
    assert len(paid) > 2  # parts
    assert facts["planned"] == facts["spent"]
    assert facts["spent"]["tokens"] > 0
    planned = sum((stage.planned(shop) for stage in paid.values()), Spending())
    assert planned.as_dict() == facts["spent"]


def encoded(scorer: Any, shop: Workshop, rows: NDArray[np.int32]) -> NDArray[np.float64]:
    """Vectors of queries by the cell's encoder, each text alone, [R, D]."""
    encoder = scorer.weights.load(shop)
    encoder.backbone.eval()
    import torch

    tokens, length = scorer.queries.read(shop), scorer.queries.length
    found = []
    for row in rows.tolist():
        ids_1L = torch.from_numpy(tokens.text(row, length).astype(np.int64))[None]
        with torch.no_grad():
            found.append(encoder(ids_1L, torch.ones_like(ids_1L))[0].double().numpy())
    return np.array(found)
