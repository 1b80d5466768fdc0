"""Recipes and their switches as axes of a report, and `lion_sweep.diff` of two such cells."""

import json
from pathlib import Path
from typing import Any

import hydra
import pytest
from report_cells import record

from lion_sweep import diff
from lion_sweep.config import config_folder, register
from lion_sweep.config.composing import compose
from lion_sweep.config.section import plain
from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import collect
from lion_sweep.report.sections import Section, sections
from lion_sweep.report.tables import scaling_table


def finished(root: Path, name: str, score: float, *words: str) -> Path:
    """A cell with a made-up result, of the configuration that the words make; its folder."""
    register()
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        config: dict[str, Any] = plain(compose(words))
    cell = Cell(*(config[axis]["name"] for axis in ("model", "paradigm", "loss")))
    folder = root / "cells" / name
    folder.mkdir(parents=True)
    axes = {"model": cell.model, "paradigm": cell.paradigm, "loss": cell.loss}
    told = record(cell, score, config=config, id=name, stages={})
    (folder / "result.json").write_text(json.dumps(told))
    (folder / "config.yaml").write_text(json.dumps({"id": name, "axes": axes} | config))
    return folder


def only(root: Path) -> Section:
    [section] = sections(collect(root))
    return section


def rows(section: Section) -> list[str]:
    return [row[0] for row in scaling_table(section, section.main).rows[:-1]]


def test_recipes_are_rows_and_what_goes_with_sizes_is_told(tmp_path: Path) -> None:
    for recipe in ("lion", "controlled"):
        for model in ("1b", "8b"):
            words = [f"recipe={recipe}", f"model={model}", "loss=clkd"]
            finished(tmp_path, "-".join([model, recipe]), 0.4, *words)
    section = only(tmp_path)
    assert rows(section) == ["sparse CL+KD, recipe=controlled", "sparse CL+KD, recipe=lion"]
    assert "Cells differ in recipe.name." in section.notes
    (along,) = [note for note in section.notes if note.startswith("They differ with their axes")]
    assert "recipe.candidates (by model)" in along
    assert "recipe.batch_size.clkd (by model)" in along


def test_a_switch_is_a_row_or_a_column(tmp_path: Path) -> None:
    for devices in (1, 4):
        words = ["recipe=lion", "model=8b", "loss=clkd", f"recipe.gathered_devices={devices}"]
        finished(tmp_path, f"8b-{devices}", 0.4, *words)
    section = only(tmp_path)
    drawn = scaling_table(section, section.main)
    assert drawn.header == ["", "gathered_devices=1", "gathered_devices=4"]
    assert rows(section) == ["sparse CL+KD"]


def test_diff_shows_just_the_switch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recipe=lion", "model=8b", "loss=clkd"]
    one = finished(tmp_path, "one", 0.4, *words)
    other = finished(tmp_path, "other", 0.5, *words, "recipe.gathered_devices=1")
    assert diff.main([str(one), str(other)]) == diff.DIFFERENT
    printed = capsys.readouterr().out
    configuration = printed.partition("configuration:\n")[2].partition("\n\n")[0].split("\n")
    assert [line.split() for line in configuration] == [
        ["loss.terms.contrastive.devices", "4", "->", "1", "(-3)"],
        ["recipe.gathered_devices", "4", "->", "1", "(-3)"],
    ]


def test_diff_of_recipes_shows_values_and_not_how_they_are_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = finished(tmp_path, "one", 0.4, "recipe=lion", "model=8b")
    other = finished(tmp_path, "other", 0.4, "recipe=controlled", "model=8b")
    assert diff.main([str(one), str(other)]) == diff.EQUAL
    printed = capsys.readouterr().out
    assert "loss.terms.contrastive.candidates" in printed and "544 -> None" in printed
    assert "recipe.by" not in printed and "learning_rate" not in printed
