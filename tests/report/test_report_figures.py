"""The scaling figure: its lines, breaks, baseline and sizes."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D
from report_cells import grid

from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import Asked, CellResult
from lion_sweep.report.figures import render, scaling_figure
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


def lines(part: Section) -> dict[str, Line2D]:
    [axes] = scaling_figure(part, "nDCG@10").axes
    _, labels = axes.get_legend_handles_labels()
    drawn = [line for line in axes.lines if line.get_linestyle() in ("-", "--")]
    assert len(drawn) == len(labels) + 1
    return dict(zip(labels, drawn, strict=False))


def test_one_line_per_paradigm_and_loss_and_one_for_bm25() -> None:
    drawn = lines(section())
    assert sorted(drawn) == [
        "dense CL", "dense CL+KD", "dense KD", "sparse CL", "sparse CL+KD", "sparse KD"
    ]  # fmt: skip
    assert drawn["sparse KD"].get_color() == drawn["dense KD"].get_color()
    assert drawn["sparse KD"].get_linestyle() != drawn["dense KD"].get_linestyle()
    assert np.asarray(drawn["dense CL"].get_xdata()).tolist() == list(PARAMETERS.values())


def test_a_line_breaks_at_a_hole() -> None:
    drawn = lines(section(holes=(Cell("3b", "dense", "kd"),)))
    values = np.asarray(drawn["dense KD"].get_ydata()).tolist()
    assert values[0] == values[2] == 0.4
    assert math.isnan(values[1])


def test_an_empty_line_says_so_and_unknown_sizes_are_nominal() -> None:
    holes = tuple(
        cell
        for cell in grid()
        if cell.model == "8b" or (cell.paradigm, cell.loss) == ("sparse", "cl")
    )
    part = section(holes=holes)
    drawn = lines(part)
    assert "sparse CL (no result)" in drawn
    assert np.asarray(drawn["dense CL"].get_xdata()).tolist() == [1e9, 3e9, 8e9]
    assert scaling_figure(part, "nDCG@10").axes[0].get_xlabel() == "backbone size"


@pytest.mark.parametrize(("ladder", "marked"), [("proxy", True), ("full", False)])
def test_only_a_proxy_figure_says_proxy(ladder: str, marked: bool) -> None:
    [axes] = scaling_figure(section(ladder=ladder), "nDCG@10").axes
    assert ("PROXY" in axes.get_title()) is marked
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "1b\n0.8 M", "3b\n2.4 M", "8b\n6.4 M"
    ]  # fmt: skip


def test_seeds_have_error_bars_and_files_have_their_signature() -> None:
    cell = Cell("1b", "sparse", "cl")
    done = [result(cell, ndcg, "proxy", seed) for seed, ndcg in enumerate((0.4, 0.6))]
    [part] = sections(done)
    figure = scaling_figure(part, "nDCG@10")
    [bars] = figure.axes[0].containers
    assert isinstance(bars, ErrorbarContainer)
    assert bars.has_yerr
    assert render(figure, "png").startswith(b"\x89PNG\r\n\x1a\n")
    # A figure's layout settles further with each drawing, so equal files need fresh figures.
    first, second = (render(scaling_figure(part, "nDCG@10"), "svg") for _ in range(2))
    assert first == second
