"""Searches with fewer terms, and vectors brought to an L0, against all products of plain numpy.

Shapes: Q queries, N passages, V vocabulary entries.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stage_contents import done

from lion_sweep.cell.cell import Cell
from lion_sweep.data.collection import Collection
from lion_sweep.machine.progress import Progress
from lion_sweep.search.parts import Stored
from lion_sweep.stages.workshop import Workshop

SmallCell = Callable[..., Cell]
BASE = ["loss=cl", "budget=steps", "budget.steps=3", "recipe.precision=fp32", "evaluation.depth=50"]
NAME = "twin"


def largest(vectors_NV: np.ndarray, count: int) -> np.ndarray:
    found = np.zeros_like(vectors_NV)
    for row, weights_V in enumerate(vectors_NV):
        order = np.argsort(-weights_V, kind="stable")[:count]
        found[row, order] = weights_V[order]
    return found


def vectors(cell: Cell, what: str) -> np.ndarray:
    folder = Path(cell.config.paths.root) / "stages" / cell.stages.roles[what].name
    return Stored(folder / "vectors").all().toarray().astype(np.float64)


def collection(cell: Cell) -> tuple[Collection, str]:
    source, split = cell.stages.sets[NAME]
    return source.read(Workshop(Path(cell.config.paths.root), Progress("", None))), split


def reciprocal_rank(cell: Cell, queries_QV: np.ndarray, passages_NV: np.ndarray) -> float:
    """The mean of 1 / rank of the first relevant passage of 10; of equal scores the lower id."""
    read, split = collection(cell)
    ids, judged, values = list(read.documents.ids), read.judged[split], []
    for query, scores_N in zip(judged.asked, queries_QV @ passages_NV.T, strict=True):
        relevant = {one for one, grade in judged.qrels[query].items() if grade > 0}
        found = [n for n in np.flatnonzero(scores_N > 0) if ids[n] != query]
        best = sorted(found, key=lambda n: (-np.float32(scores_N[n]), ids[n]))[:10]
        ranks = [rank for rank, n in enumerate(best, start=1) if ids[n] in relevant]
        values.append(1 / ranks[0] if ranks else 0.0)
    return float(np.mean(values))


def shared(queries_QV: np.ndarray, passages_NV: np.ndarray) -> float:
    """Terms that a query and a passage have in common, the mean over all pairs."""
    return float(((queries_QV > 0).astype(int) @ (passages_NV > 0).astype(int).T).mean())


@pytest.fixture(scope="module")
def made() -> dict[str, Cell]:
    return {}


def test_points_equal_brute_force(small_cell: SmallCell, tmp_path: Path) -> None:
    words = ["paradigm=sparse", "evaluation.topk=[2/5,4/30]", f"paths.root={tmp_path}"]
    cell = done(small_cell(*BASE, *words))
    result = json.loads(cell.result_path.read_text())
    queries_QV, passages_NV = (vectors(cell, f"encode {w} {NAME}") for w in ("queries", "passages"))
    told = result["topk"][NAME]
    assert list(told) == ["2/5", "4/30"]
    for point, (of_query, of_passage) in {"2/5": (2, 5), "4/30": (4, 30)}.items():
        found, kept = told[point], (largest(queries_QV, of_query), largest(passages_NV, of_passage))
        assert (found["queries"], found["passages"]) == (of_query, of_passage)
        assert found["L0_queries"] == pytest.approx((kept[0] > 0).sum(axis=1).mean())
        assert found["L0_documents"] == pytest.approx((kept[1] > 0).sum(axis=1).mean())
        assert found["flops"] == pytest.approx(shared(*kept))
        assert found["scores"]["MRR@10"] == pytest.approx(reciprocal_rank(cell, *kept), abs=1e-3)
        assert found["index_bytes"] < result["efficiency"][NAME]["index_bytes"]
    whole = reciprocal_rank(cell, queries_QV, passages_NV)
    assert result["scores"][NAME]["MRR@10"] == pytest.approx(whole, abs=1e-3)
    assert told["2/5"]["scores"] != told["4/30"]["scores"]
    # A point more leaves the others, and what they are made of, as they are.
    more = small_cell(*BASE, *words[:1], "evaluation.topk=[4/30,3/3]", *words[2:])
    assert more.stages.roles["score twin 4/30"] == cell.stages.roles["score twin 4/30"]
    assert more.stages.roles["score twin"] == cell.stages.roles["score twin"]
    assert more.id != cell.id


def test_dense_cells_have_no_points(small_cell: SmallCell) -> None:
    cell = small_cell(*BASE, "paradigm=dense", "evaluation.topk=[2/5]")
    assert not any("2/5" in title for title in cell.stages.roles)


def test_vectors_are_brought_to_the_target(small_cell: SmallCell, tmp_path: Path) -> None:
    target = {"queries": 4, "passages": 21.5}
    cell = done(
        small_cell(
            *BASE,
            "paradigm=sparse",
            "paradigm.target_l0={queries: 4, passages: 21.5}",
            "evaluation.topk=[2/5]",
            "alarms=none",  # so many terms fewer in three steps take all that there is to learn
            f"paths.root={tmp_path}",
        )
    )
    result = json.loads(cell.result_path.read_text())
    kept = []
    efficiency = result["efficiency"][NAME]
    for what, name in (("queries", "queries"), ("passages", "documents")):
        whole = vectors(cell, f"encode {what} {NAME}")
        count = int(target[what] * len(whole))
        assert (whole > 0).sum() > count  # there is something to do
        least = np.sort(whole[whole > 0])[-count]
        kept.append(np.where(whole >= least, whole, 0))
        achieved = (kept[-1] > 0).sum() / len(whole)
        assert efficiency[f"L0_{name}"] == pytest.approx(achieved)
        assert achieved == pytest.approx(target[what], abs=1 / len(whole))
        assert efficiency[f"L0_{name}_target"] == target[what]
        assert efficiency[f"L0_{name}_encoded"] == pytest.approx((whole > 0).sum() / len(whole))
    assert efficiency["flops"] == pytest.approx(shared(*kept))
    found = result["scores"][NAME]["MRR@10"]
    assert found == pytest.approx(reciprocal_rank(cell, *kept), abs=1e-3)
    # The untrained model is searched at the same cost.
    root = tmp_path / "stages"
    for what in ("queries", "passages"):
        stage = cell.stages.roles[f"prune untrained {what} {NAME}"]
        facts = json.loads((root / stage.name / "done.json").read_text())["facts"]
        assert facts["L0"] <= target[what]
