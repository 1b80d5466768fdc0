"""A cell's id changes with what can change its numbers, and with nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lion_sweep.cell import Cell
from lion_sweep.config import Config

Compose = Callable[..., Config]


@pytest.mark.parametrize(
    "override",
    [
        "site=gpu",
        "site.shard=always",
        "tracking=none",
        "tracking.project=other",
        "tracking.group=mine",
        "paths.root=elsewhere",
        "data.path=somewhere",
        "data.qrels=elsewhere.tsv",
    ],
)
def test_where_a_cell_runs_keeps_its_id(compose_cell: Compose, override: str) -> None:
    assert (
        Cell(compose_cell(override), {"pydoc": "sum"}).id
        == Cell(compose_cell(), {"pydoc": "sum"}).id
    )


@pytest.mark.parametrize(
    "override",
    [
        "seed=43",
        "loss=clkd",
        "model=3b",
        "paradigm=dense",
        "budget=steps",
        "recipe.learning_rate=2e-4",
        "recipe.sparse.threshold=2.5",
        "recipe.adapt.steps=21",
        "recipe.precision=bf16",
        "evaluation.depth=100",
        "evaluation.sparse_engine=lucene",
        "evaluation.bm25_engine=lucene",
        "evaluation.seismic.query_cut=5",
        "evaluation.kept_terms=100",
        "loss.terms.contrastive.candidates=48",
        "evaluation.dense_precision=float16",
        "loss.terms.contrastive.weight=0.6",
        "model.proxy.layers=2",
        "teacher.encoder_weight=2.0",
    ],
)
def test_what_changes_numbers_changes_the_id(compose_cell: Compose, override: str) -> None:
    assert (
        Cell(compose_cell(override), {"pydoc": "sum"}).id
        != Cell(compose_cell(), {"pydoc": "sum"}).id
    )


def test_the_collection_changes_the_id(compose_cell: Compose) -> None:
    config = compose_cell()
    assert Cell(config, {"pydoc": "sum"}).id != Cell(config, {"pydoc": "other"}).id
    assert Cell(config, {"pydoc": "sum"}).id == Cell(compose_cell(), {"pydoc": "sum"}).id


def test_what_it_is_scored_on_changes_the_id_and_where_that_lies_does_not(
    compose_cell: Compose,
) -> None:
    contents = {"pydoc": "sum", "mine": "other"}
    plain = Cell(compose_cell(), {"pydoc": "sum"})
    cells = [
        Cell(compose_cell(f"+evaluation.sets.mine={{path: {path}}}"), contents)
        for path in ("here", "there")
    ]
    assert cells[0].id == cells[1].id != plain.id
    longer = "+evaluation.sets.mine={path: here, passage_length: 64}"
    assert Cell(compose_cell(longer), contents).id != cells[0].id


def test_the_id_names_the_axes(compose_cell: Compose, tmp_path: Path) -> None:
    config = compose_cell("model=8b", "paradigm=dense", "loss=kd", f"paths.root={tmp_path}")
    cell = Cell(config, {"pydoc": "sum"})
    assert cell.id.startswith("8b-dense-kd-")
    assert cell.folder == tmp_path / "cells" / cell.id


def test_the_frozen_configuration_explains_the_cell(compose_cell: Compose, tmp_path: Path) -> None:
    config = compose_cell("loss=cl", "seed=7", f"paths.root={tmp_path}")
    cell = Cell(config, {"pydoc": "sum"})
    cell.freeze()
    cell.freeze()
    frozen = OmegaConf.load(cell.folder / "config.yaml")
    assert frozen.id == cell.id
    assert frozen.axes == {"model": "1b", "paradigm": "sparse", "loss": "cl"}
    assert frozen.seed == 7
    assert frozen.site.name == "auto"
    assert frozen.recipe.precision == "auto"
    assert frozen.budget.flops == config.recipe.flops
    assert "${" not in (cell.folder / "config.yaml").read_text()
    assert [path.name for path in cell.folder.iterdir()] == ["config.yaml"]


def test_a_cell_with_a_result_is_complete(compose_cell: Compose, tmp_path: Path) -> None:
    cell = Cell(compose_cell(f"paths.root={tmp_path}"), {"pydoc": "sum"})
    cell.freeze()
    assert not cell.complete
    cell.write_result({"nDCG@10": 0.5})
    assert cell.complete
    assert cell.read_result() == {"nDCG@10": 0.5}
    assert json.loads((cell.folder / "result.json").read_text()) == {"nDCG@10": 0.5}
