"""Figures: their lines, breaks, baseline, sizes and files."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cells import grid

from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import Asked, CellResult
from lion_sweep.report.figures import (
    baseline,
    drawn,
    points,
    render,
    scaling_figure,
    scaling_spec,
    tradeoff_spec,
)
from lion_sweep.report.paper import figures
from lion_sweep.report.sections import Section, sections

PARAMETERS = {"1b": 0.8e6, "3b": 2.4e6, "8b": 6.4e6}


def asked(cell: Cell, ladder: str, seed: int = 42) -> Asked:
    axes = {"model": cell.model, "paradigm": cell.paradigm, "loss": cell.loss}
    names = {"cl": "CL", "kd": "KD", "clkd": "CL+KD"}
    config = {"loss": {"title": names[cell.loss]}, "seed": seed} | dict(cell.more)
    return Asked.of(ladder, axes, config)


def result(cell: Cell, ndcg: float, ladder: str, seed: int = 42) -> CellResult:
    return CellResult(
        id=str(cell),
        asked=asked(cell, ladder, seed),
        ladder=ladder,
        seed=seed,
        data="pydoc",
        scores={"pydoc": {"nDCG@10": ndcg}},
        backbone={"parameters": PARAMETERS[cell.model]},
        teacher=None,
        untrained={},
        gain={},
        bm25={"pydoc": {"nDCG@10": 0.48}},
        efficiency={},
        collections={},
        ledger={},
        stages={},
        versions={},
        device={},
        folder=Path("cells", "-".join((cell.model, cell.paradigm, cell.loss))),
        modified=0.0,
    )


def section(holes: tuple[Cell, ...] = (), ladder: str = "proxy") -> Section:
    done = [result(cell, 0.4, ladder) for cell in grid() if cell not in holes]
    [only] = sections(done, [asked(cell, ladder) for cell in holes])
    return only


def svg(spec: dict[str, Any]) -> str:
    return render(spec)["svg"].decode()


def ticks(drawing: str) -> list[str]:
    return re.findall(r"<(?:text|tspan)[^>]*>([^<]+)</(?:text|tspan)>", drawing)


def test_one_line_per_paradigm_and_loss_and_one_for_bm25() -> None:
    part = section()
    rows = points(part, "nDCG@10")
    assert list(dict.fromkeys(row["row"] for row in rows)) == [
        "sparse CL", "sparse KD", "sparse CL+KD", "dense CL", "dense KD", "dense CL+KD"
    ]  # fmt: skip
    looks = {row["row"]: (row["colour"], row["line"]) for row in rows}
    assert looks["sparse KD"] == ("KD", "sparse") and looks["dense KD"] == ("KD", "dense")
    assert [row["at"] for row in rows[:3]] == list(PARAMETERS.values())
    assert {row["score"] for row in rows} == {0.4}
    assert baseline(part, "nDCG@10") == [{"name": "BM25", "score": 0.48}]
    drawing = svg(scaling_figure(part, "nDCG@10"))
    assert drawing.count('stroke-width="2"') >= 6
    assert "BM25" in ticks(drawing)


def test_a_line_breaks_at_a_hole() -> None:
    whole, broken = section(), section(holes=(Cell("3b", "dense", "kd"),))
    scores = {row["name"]: row["score"] for row in points(broken, "nDCG@10")}
    assert scores["dense KD 3b"] is None
    assert scores["dense KD 1b"] == scores["dense KD 8b"] == 0.4
    drawings = [svg(scaling_figure(part, "nDCG@10")) for part in (whole, broken)]
    strokes = [re.findall(r'd="(M[^"]+)"[^>]*stroke-width="2"', one) for one in drawings]
    segments = [sum(path.count("L") for path in found) for found in strokes]
    # The one line that lacks its middle has no stroke left, of two.
    assert segments[0] - segments[1] == 2


def test_unknown_sizes_are_nominal() -> None:
    holes = tuple(
        cell
        for cell in grid()
        if cell.model == "8b" or (cell.paradigm, cell.loss) == ("sparse", "cl")
    )
    part = section(holes=holes)
    rows = [row for row in points(part, "nDCG@10") if row["row"] == "dense CL"]
    assert [row["at"] for row in rows] == [1e9, 3e9, 8e9]
    assert scaling_spec(part, "nDCG@10")["encoding"]["x"]["title"] == "backbone size"


@pytest.mark.parametrize(("ladder", "marked"), [("proxy", "PROXY"), ("cut", "CUT"), ("full", "")])
def test_a_figure_says_of_which_ladder_it_is(ladder: str, marked: str) -> None:
    told = ticks(svg(scaling_figure(section(ladder=ladder), "nDCG@10")))
    said = [word for word in ("PROXY", "CUT") if any(f"{word} ladder: " in text for text in told)]
    assert said == [marked] * bool(marked)
    assert [text for text in told if text in ("1b", "3b", "8b")] == ["1b", "3b", "8b"]
    assert [text for text in told if text.endswith(" M")] == ["0.8 M", "2.4 M", "6.4 M"]


def test_seeds_have_error_bars_and_files_are_the_same_on_every_run() -> None:
    cell = Cell("1b", "sparse", "cl")
    done = [result(cell, ndcg, "proxy", seed) for seed, ndcg in enumerate((0.4, 0.6))]
    [part] = sections(done)
    part.measures.append("MRR@10")  # of which there is no interval over queries
    for one in done:
        one.scores["pydoc"]["MRR@10"] = one.scores["pydoc"]["nDCG@10"]
    [row] = points(part, "MRR@10")
    assert row["score"] == 0.5
    assert math.isclose(row["high"] - row["score"], math.sqrt(0.02))
    assert math.isclose(row["score"] - row["low"], math.sqrt(0.02))
    first, second = (render(scaling_figure(part, "nDCG@10")) for _ in range(2))
    assert first == second
    assert first["png"].startswith(b"\x89PNG\r\n\x1a\n")
    assert first["svg"].startswith(b"<svg ")
    assert first["pdf"].startswith(b"%PDF-")


def test_lines_at_one_place_are_told_apart() -> None:
    rows = points(section(), "nDCG@10")
    aside = [row["dodge"] for row in rows if row["name"].endswith("1b")]
    assert sorted(aside) == [-10.0, -6.0, -2.0, 2.0, 6.0, 10.0]


def test_the_front_has_what_no_other_is_better_and_cheaper_than() -> None:
    """By the drawing: the corners of the grey line are those of a front worked out by hand."""
    told = ((1.0, 0.30), (2.0, 0.20), (3.0, 0.50), (4.0, 0.45), (5.0, 0.6))
    costs = dict(zip("abcde", told, strict=True))
    look = {"colour": "CL", "line": "sparse", "other": ""}
    rows = [look | {"name": n, "cost": cost, "score": score} for n, (cost, score) in costs.items()]
    rows.append(look | {"name": "hole", "cost": None, "score": None})
    spec = tradeoff_spec(section(), "flops", "FLOPs spent")
    drawing = svg(drawn(spec, points=rows, bm25=[]))
    [front] = re.findall(r'd="(M[^"]+)"[^>]*stroke="#808080"[^>]*stroke-width', drawing)
    corners = re.findall(r"(-?[\d.]+),(-?[\d.]+)", front)
    x = [float(one) for one, _ in corners]
    y = [float(other) for _, other in corners]
    # a, then a step to c, then a step to e: five corners, never down.
    assert len(corners) == 5
    assert x == sorted(x) and y == sorted(y, reverse=True)
    width = x[-1] - x[0]
    assert [round((one - x[0]) / width, 3) for one in x] == [0, 0.5, 0.5, 1, 1]


def test_sizes_that_are_close_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six of them, that would overlap side by side: all are there, and none over another one."""
    sizes = {f"stand-in-{n}": 1e6 * n for n in (1.0, 1.2, 1.5, 2.0, 2.5, 3.0)}
    monkeypatch.setitem(globals(), "PARAMETERS", sizes)
    [part] = sections([result(Cell(name, "dense", "cl"), 0.4, "proxy") for name in sizes])
    drawing = svg(scaling_figure(part, "nDCG@10"))
    found = re.findall(
        r'<text text-anchor="end" transform="([^"]+)"[^>]*>(stand-in-[^<]+)<', drawing
    )
    assert [name for _, name in found] == list(sizes)
    assert all("rotate(320)" in place for place, _ in found)
    places = [float(place.removeprefix("translate(").split(",")[0]) for place, _ in found]
    assert min(np.diff(places)) > 12  # a line's height


def test_papers_get_every_chart_that_has_data(tmp_path: Path) -> None:
    """One against each cost that differs, and curves with the size at their ends."""
    done = []
    for number, cell in enumerate(grid()):
        one = replace(result(cell, 0.4 + number / 100, "proxy"), folder=tmp_path / str(number))
        one.efficiency["pydoc"] = {"index_bytes": 1000.0 * (1 + number), "L0_documents": 100.0}
        one.folder.mkdir()
        lines = [{"step": s, "useful_flops": 1e9 * s, "MRR@10": s / 10} for s in (1, 2)]
        (one.folder / "points.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        done.append(one)
    made = {name: make() for name, make in figures(sections(done))}
    assert list(made) == [
        "proxy-pydoc-nDCG@10", "proxy-pydoc-nDCG@10-against-index_bytes", "proxy-training"
    ]  # fmt: skip
    rows = made["proxy-pydoc-nDCG@10-against-index_bytes"]["datasets"]["points"]
    assert {row["name"]: row["cost"] for row in rows} == {
        cell_name: 1000.0 * (1 + number)
        for number, cell_name in enumerate(f"{row} {size}" for size, row in _rows())
    }
    for spec in made.values():
        told = ticks(svg(spec))
        assert any("PROXY" in text for text in told)
        assert sum(text == "3b" for text in told) >= 1
    curves = made["proxy-training"]["datasets"]["curve"]
    assert len(curves) == 2 * len(done)
    assert {(row["x"], row["y"]) for row in curves} == {(1e9, 0.1), (2e9, 0.2)}


def _rows() -> list[tuple[str, str]]:
    """(size, row) of the cells of a grid, in its order."""
    names = {"cl": "CL", "kd": "KD", "clkd": "CL+KD"}
    return [(cell.model, f"{cell.paradigm} {names[cell.loss]}") for cell in grid()]
