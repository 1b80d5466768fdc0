"""Figures are the same wherever they are drawn, and none of them is in the others' way."""

import pytest

from lion_sweep.report import drawing
from lion_sweep.report.drawing import drawing_of
from lion_sweep.report.figures import Spec

POINTS = [{"size": size, "score": size / 10} for size in (1, 3, 8)]
LINE: Spec = {
    "mark": "line",
    "data": {"name": "points"},
    "encoding": {"x": {"field": "size"}, "y": {"field": "score", "type": "quantitative"}},
    "datasets": {"points": POINTS},
}
BROKEN: Spec = {"mark": "no such mark", "datasets": {"points": POINTS}}


@pytest.mark.parametrize("rows", [0, 10**6], ids=["another process", "this one"])
def test_figures_drawn_beside(
    rows: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drawing, "ROWS_OF_A_PROCESS", rows)
    with drawing_of({"broken": BROKEN, "line": LINE}) as begun:
        found = begun.result()
    assert capfd.readouterr().err.startswith("without figure broken: ")
    here = drawing.render(LINE)
    assert found.keys() == {"line"} and found["line"].keys() == here.keys()
    assert all(found["line"][form] == here[form] for form in ("svg", "png"))
    assert found["line"]["png"][:4] == b"\x89PNG" and found["line"]["pdf"][:4] == b"%PDF"
