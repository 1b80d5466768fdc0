"""Grids over any key: what is across, what makes rows, and nothing in one row in silence."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lion_sweep.report.__main__ import main
from lion_sweep.report.collect import collect, unfinished
from lion_sweep.report.figures import points, scaling_figure
from lion_sweep.report.sections import Section, sections
from lion_sweep.report.tables import scaling_table
from lion_sweep.result import FORMAT

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the result of a cell; keys such as `recipe__lora__rank` are of its configuration."""

    def write_cell(model: str, paradigm: str, loss: str, score: float | None, **keys: Any) -> Path:
        size, measure = keys.pop("size", None), keys.pop("measure", "nDCG@10")
        values = {"seed": 42, "ladder": "proxy"} | keys
        config: dict[str, Any] = {}
        for key, value in values.items():
            at = config
            *way, last = key.split("__")
            for name in way:
                at = at.setdefault(name, {})
            at[last] = value
        identity = "-".join([model, paradigm, loss, *map(str, values.values())])
        folder = tmp_path / "cells" / identity
        folder.mkdir(parents=True)
        axes = {"model": model, "paradigm": paradigm, "loss": loss}
        (folder / "config.yaml").write_text(json.dumps({"axes": axes} | config))
        record = {
            "format": FORMAT, "id": identity, "axes": axes, "config": config,
            "ladder": "proxy", "seed": values["seed"], "data": "pydoc",
            "scores": {"pydoc": {measure: score}}, "backbone": {"parameters": size},
        }  # fmt: skip
        if score is not None:
            (folder / "result.json").write_text(json.dumps(record))
        return folder

    return write_cell


def only(root: Path, **wanted: Any) -> Section:
    [section] = sections(collect(root), unfinished(root), **wanted)
    return section


def table(section: Section) -> list[list[str]]:
    drawn = scaling_table(section, section.main)
    return [drawn.header, *drawn.rows[:-1]]


def test_names_that_the_study_does_not_have_are_rows_and_columns(
    write: Write, tmp_path: Path
) -> None:
    for model, size in (("tiny", 1e5), ("1b", 1e6), ("smollm2", 1e8)):
        write(model, "mine", "other", 0.4, size=size)
        write(model, "sparse", "cl", 0.5, size=size)
    assert table(only(tmp_path)) == [
        ["", "tiny", "1b", "smollm2"],
        ["sparse cl", "0.5000", "0.5000", "0.5000"],
        ["mine other", "0.4000", "0.4000", "0.4000"],
    ]


def test_a_swept_number_is_across_where_there_is_one_size_and_seeds_are_averaged(
    write: Write, tmp_path: Path
) -> None:
    for rank in (16, 4):
        for seed in (0, 2):
            write("1b", "dense", "cl", rank / 100 + seed / 10, recipe__lora__rank=rank, seed=seed)
    section = only(tmp_path)
    assert table(section) == [
        ["", "rank=4", "rank=16"],
        ["dense cl", "0.1400 ± 0.1414 (n=2)", "0.2600 ± 0.1414 (n=2)"],
    ]
    x = scaling_figure(section, "nDCG@10")["encoding"]["x"]
    assert x["title"] == "recipe.lora.rank"
    assert (x["axis"]["values"], x["scale"]["type"]) == ([4.0, 16.0], "linear")
    assert table(only(tmp_path, columns="seed"))[0] == ["", "seed=0", "seed=2"]
    assert [row[0] for row in table(only(tmp_path, columns="seed"))[1:]] == [
        "dense cl, rank=4", "dense cl, rank=16"
    ]  # fmt: skip


def test_other_keys_make_rows_of_their_own_and_are_told(write: Write, tmp_path: Path) -> None:
    for model in ("1b", "3b"):
        for flops in (1e11, 1e12):
            write(model, "dense", "cl", flops / 1e13, budget__flops=flops)
        write(model, "sparse", "cl", 0.5, budget__flops=1e11)
    section = only(tmp_path)
    assert table(section) == [
        ["", "1b", "3b"],
        ["sparse cl", "0.5000", "0.5000"],
        ["dense cl, flops=1e+11", "0.0100", "0.0100"],
        ["dense cl, flops=1e+12", "0.1000", "0.1000"],
    ]
    assert "Cells differ in budget.flops." in scaling_table(section, "nDCG@10").below
    assert len({row["row"] for row in points(section, "nDCG@10")}) == 3
    parts = sections(collect(tmp_path), tables=["budget.flops"])
    assert [(part.name, len(part.results)) for part in parts] == [
        ("pydoc, flops=1e+11", 4), ("pydoc, flops=1e+12", 2)
    ]  # fmt: skip


def test_cells_of_two_sizes_that_differ_in_more_are_not_in_one_row(
    write: Write, tmp_path: Path
) -> None:
    write("1b", "dense", "cl", 0.1, recipe__learning_rate=1e-4)
    write("3b", "dense", "cl", 0.2, recipe__learning_rate=1e-5)
    assert table(only(tmp_path)) == [
        ["", "1b", "3b"],
        ["dense cl, learning_rate=1e-05", "", "0.2000"],
        ["dense cl, learning_rate=0.0001", "0.1000", ""],
    ]


def test_a_loss_without_a_teacher_is_no_other_teacher(write: Write, tmp_path: Path) -> None:
    write("1b", "dense", "cl", 0.1)
    path = write("1b", "dense", "kd", 0.1, teacher__name="mine") / "result.json"
    record = json.loads(path.read_text()) | {"teacher": {"name": "mine"}}
    path.write_text(json.dumps(record))
    section = only(tmp_path)
    assert section.axes.row_keys == ["paradigm", "loss"]
    assert not any("differ" in note for note in section.notes)


def test_teachers_make_rows_by_their_names(write: Write, tmp_path: Path) -> None:
    """Whatever else an option brings along."""
    given = {"teacher__scorers__own__kind": "logit"}
    weight = "teacher__scorers__own__weight"
    for score, name, keys in (
        (0.1, "given", {weight: 1.0} | given),
        (0.2, "bm25", {weight: 1.0}),
        (0.3, "cross-encoder", {weight: 0.0}),
    ):
        path = write("1b", "dense", "kd", score, teacher__name=name, **keys) / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"teacher": {"name": name}}))
    assert [row[0] for row in table(only(tmp_path))[1:]] == [
        "dense kd, teacher=bm25",
        "dense kd, teacher=cross-encoder",
        "dense kd, teacher=given",
    ]


def test_only_what_was_asked_for_is_a_hole(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("1b", "dense", "cl", 0.1)
    write("3b", "sparse", "kd", 0.2)
    assert table(only(tmp_path))[1:] == [["sparse kd", "", "0.2000"], ["dense cl", "0.1000", ""]]
    assert main(["--root", str(tmp_path)]) == 0
    write("3b", "dense", "cl", None)  # begun, without a result
    assert table(only(tmp_path))[1:] == [["sparse kd", "", "0.2000"], ["dense cl", "0.1000", "—"]]
    assert main([f"paths.root={tmp_path}"]) == 3
    assert "Holes: dense cl 3b, BM25." in capsys.readouterr().out
    grid = ["--grid", "model=1b", "paradigm=dense", "loss=cl,kd"]
    assert main(["--root", str(tmp_path), *grid]) == 3
    assert "Holes: dense kd 1b, BM25." in capsys.readouterr().out


def test_the_main_measure_is_the_first_that_cells_have(write: Write, tmp_path: Path) -> None:
    write("1b", "dense", "cl", 0.1, measure="MRR@10")
    assert only(tmp_path).main == "MRR@10"
    write("3b", "dense", "cl", 0.1, measure="MAP@1000")
    assert "Cells differ in their first measure (MAP@1000, MRR@10)." in only(tmp_path).notes


def test_a_key_may_be_said_by_its_last_words(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in (4, 16):
        more = {"recipe__lora__rank": rank, "model__rank": 3}  # which they do not differ in
        write("1b", "dense", "cl", 0.1, **more)
    assert main(["--root", str(tmp_path), "--columns", "rank", "--name", "ranks"]) == 0
    assert re.search(r"\| +rank=4 \| +rank=16 \|", capsys.readouterr().out)
    heads = (tmp_path / "reports/ranks/scaling.csv").read_text().splitlines()[0]
    assert heads == "ladder,collection,model,paradigm,loss,recipe.lora.rank,seed,id,measure,value"


def test_tables_by_a_number_ascend(write: Write, tmp_path: Path) -> None:
    for flops in (1e11, 5e10):
        write("1b", "dense", "cl", 0.1, budget__flops=flops)
    parts = sections(collect(tmp_path), unfinished(tmp_path), tables=["budget.flops"])
    assert [part.name for part in parts] == ["pydoc, flops=5e+10", "pydoc, flops=1e+11"]


def test_a_begun_cell_is_one_hole_of_a_grid(write: Write, tmp_path: Path) -> None:
    write("1b", "dense", "cl", 0.1, recipe__lora__rank=4)
    write("1b", "dense", "kd", None, recipe__lora__rank=16)
    found = only(tmp_path, grid={"loss": ["cl", "kd"]})
    assert [cell.loss for cell in found.holes(found.main)] == ["kd"]
