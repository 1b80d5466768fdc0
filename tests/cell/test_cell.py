"""A cell's id changes with what can change its numbers, and with nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lion_sweep import preflight
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import CELL, Task
from lion_sweep.errors import UserError
from lion_sweep.result import FORMAT, read_result

SmallCell = Callable[..., Cell]


@pytest.mark.parametrize(
    "overrides",
    [
        ["site.shard=never"],
        ["site.encode_jobs=4", "site.shard_tokens=999"],
        ["tracking.project=other"],
        ["teacher.scorers.own.weight=2.0"],  # of a cell that reads no teacher
        ["recipe.batch_size.kd=64", "recipe.negatives.kd=2"],
        ["recipe.dense.temperature=0.5"],  # of a sparse one
        ["recipe.checkpoint_every=7", "recipe.micro_batch_tokens=512"],
        ["engine.kinds.dense.half=true"],
        ["evaluation.batch_tokens=2048"],
    ],
)
def test_what_a_cell_does_not_read_keeps_its_id(
    small_cell: SmallCell, overrides: list[str]
) -> None:
    assert small_cell(*overrides).id == small_cell().id


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
        "recipe.precision=fp32",
        "evaluation.depth=100",
        "engine=lucene",
        "engine.kinds.words._target_=lion_sweep.search.bm25_lucene.LuceneBM25Index",
        "evaluation.kept_terms=100",
        "loss.terms.contrastive.candidates=48",
        "loss.terms.contrastive.weight=0.6",
        "model.proxy.layers=2",
        "data.name=other",
    ],
)
def test_what_changes_numbers_changes_the_id(small_cell: SmallCell, override: str) -> None:
    base = ["recipe.precision=bf16"] if "precision" in override else []
    assert small_cell(override).id != small_cell(*base).id


def test_what_it_is_scored_on_changes_the_id_and_where_that_lies_does_not(
    small_cell: SmallCell, small_beir: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").symlink_to(small_beir)
    cells = [
        small_cell(f"+evaluation.sets.mine={{path: {path}}}")
        for path in (small_beir, tmp_path / "there")
    ]
    assert cells[0].id == cells[1].id != small_cell().id
    longer = small_cell(f"+evaluation.sets.mine={{path: {small_beir}, passage_length: 32}}")
    grouped = small_cell(f"+evaluation.sets.mine={{path: {small_beir}, group: all}}")
    assert len({cells[0].id, longer.id, grouped.id}) == 3


def test_the_id_names_the_axes(small_cell: SmallCell, small_root: Path) -> None:
    cell = small_cell("model=8b", "paradigm=dense", "loss=kd")
    assert cell.id.startswith("8b-dense-kd-")
    assert cell.folder == small_root / "cells" / cell.id


def test_the_frozen_configuration_explains_the_cell(small_cell: SmallCell) -> None:
    cell = small_cell("loss=cl", "seed=7", "recipe.precision=auto")
    task = Task(CELL, cell.id, cell.config)
    task.freeze()
    task.freeze()
    frozen = OmegaConf.load(cell.folder / "config.yaml")
    assert frozen.id == cell.id
    assert frozen.axes == {"model": "1b", "paradigm": "sparse", "loss": "cl"}
    assert frozen.seed == 7
    assert frozen.site.devices == 1
    assert frozen.recipe.precision in ("bf16", "fp32")  # settled before it is hashed
    assert frozen.budget.flops == cell.config.recipe.flops
    assert "${" not in (cell.folder / "config.yaml").read_text()
    assert {path.name for path in cell.folder.iterdir()} == {"config.yaml", "task.json"}


def test_a_settled_configuration_never_changes(small_cell: SmallCell) -> None:
    config = small_cell().config
    with pytest.raises(AttributeError, match=r"Adapt\.steps: a settled section never changes"):
        config.recipe.adapt.steps = 3


RESULT = {"format": FORMAT, "id": "x", "axes": {}, "ladder": "proxy", "seed": 1, "data": "twin"}


def test_a_cell_with_a_result_is_complete(small_cell: SmallCell) -> None:
    cell = small_cell("seed=77")
    Task(CELL, cell.id, cell.config).freeze()
    assert not cell.complete
    cell.write_result(RESULT | {"scores": {"twin": {"nDCG@10": 0.5}}})  # type: ignore[arg-type]
    assert cell.complete
    assert cell.read_result()["scores"] == {"twin": {"nDCG@10": 0.5}}
    cell.result_path.unlink()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": FORMAT - 1}, "was written by another version of lion_sweep"),
        ({"format": None}, "was written by another version of lion_sweep"),
        ({"seed": "one"}, "key 'seed' is missing or not of type int"),
        ({"scores": {"twin": 3}}, "scores of 'twin' are not numbers by measure"),
        ({"scores": {"twin": {"nDCG@10": "high"}}}, "scores of 'twin' are not numbers by measure"),
        ({"ledger": [1]}, "key 'ledger' is not an object"),
    ],
)
def test_a_result_that_cannot_be_read_is_named(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(RESULT | {"scores": {}} | change))
    with pytest.raises(UserError, match=f"{path}.*{says}"):
        read_result(path)


def test_results_of_another_version_are_named_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, version in (("1b-a", None), ("1b-b", FORMAT - 1), ("1b-c", FORMAT)):
        folder = tmp_path / "cells" / name
        folder.mkdir(parents=True)
        record = RESULT | {"scores": {}, "format": version}
        (folder / "result.json").write_text(json.dumps(record))
    preflight.name_older(tmp_path)
    assert "2 finished cells are of another version of lion_sweep, such as 1b-a" in (
        capsys.readouterr().out
    )
