"""A browser, and two reports for it to open."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import launch, missing
from playwright.sync_api import Browser, sync_playwright
from report_cells import grid
from report_grids import NASTY, SIZED, Grid

from lion_sweep.report.__main__ import main
from lion_sweep.report.axes import Cell

SWEPT = "recipe.weight_decay"


@pytest.fixture(scope="session")
def browser(once: Any) -> Iterator[Browser]:
    reasons: list[str] = []
    once("chromium", lambda _: reasons.append(missing()))
    if reason := missing() if not reasons else reasons[0]:
        pytest.skip(reason)
    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@pytest.fixture(scope="session")
def demo(once: Any) -> Path:
    """Eight cells of one seed on one collection."""

    def make(root: Path) -> None:
        grid_of = Grid(root)
        for cell in grid(model=SIZED, loss=("cl", "clkd")):
            grid_of.finished(cell)
        assert main(["--root", str(root)]) == 0

    return once("page_demo", make)


@pytest.fixture(scope="session")
def holes(once: Any) -> Path:
    """Two seeds, a swept key, three collections, a failed cell, one not begun, nasty texts."""

    def make(root: Path) -> None:
        sets = {"pydoc": (12, 50, None), "fiqa": (10, 40, "beir"), "nq": (8, 30, "beir")}
        grid_of = Grid(root, sets)
        for cell in grid(model=SIZED, paradigm=("sparse",), loss=("cl",)):
            for decay in ("0.1", "0.2"):
                for seed in (0, 1):
                    if (cell.model, decay, seed) != ("3b", "0.2", 1):
                        grid_of.finished(_with(cell, decay), seed)
        grid_of.begun(Cell("1b", "dense", "cl", ((SWEPT, "0.1"),)), "failed", NASTY, seed=0)
        _poison(root)
        words = ["model=1b,3b", "paradigm=sparse,dense", "loss=cl"]
        assert main(["--root", str(root), "--grid", *words]) == 3

    return once("page_holes", make)


def _with(cell: Cell, decay: str) -> Cell:
    return Cell(cell.model, cell.paradigm, cell.loss, ((SWEPT, decay),))


def _poison(root: Path) -> None:
    """Texts that would run where a page takes them for markup."""
    for folder in (root / "cells").iterdir():
        for path in [*folder.glob("per_query/*.json"), *folder.glob("runs/*.trec")]:
            path.write_text(
                path.read_text().replace('"q3"', f'"{NASTY}"').replace("q3 ", f"{NASTY} ")
            )
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("title: CL", f"title: {json.dumps(NASTY)}"))
        if (result := folder / "result.json").is_file():
            record = json.loads(result.read_text())
            record["config"]["loss"]["title"] = NASTY
            record["device"]["name"] = NASTY
            result.write_text(json.dumps(record))
