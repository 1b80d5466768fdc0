"""Dashboards as they would be sent, and what stops them before."""

import json
from pathlib import Path
from typing import Any

import pytest
import tracked_cell
import yaml
from tracked_cell import RESULT
from wandb_server import serving

from lion_sweep import dashboard
from lion_sweep.errors import UserError
from lion_sweep.files import write_json
from lion_sweep.machine.tracked import FLOPS, Records, summary

pytest.importorskip("wandb_workspaces")

GROUPS = ["axis_loss.value", "axis_paradigm.value"]  # as W&B names keys of the configuration


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two finished cells and one that has only begun."""
    for paradigm, loss in (("sparse", "cl"), ("dense", "kd"), ("sparse", "hinge")):
        axes = {"model": "1b", "paradigm": paradigm, "loss": loss}
        folder = tmp_path / "cells" / "-".join(axes.values())
        folder.mkdir(parents=True)
        if loss != "hinge":
            write_json(folder / "result.json", RESULT | {"id": folder.name, "axes": axes})
        config = {"ladder": "proxy", "axes": axes, "id": folder.name}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def panels(of: Any, kind: str) -> list[dict[str, Any]]:
    """The settings of all panels of a kind, wherever they stand in a serialised form."""
    if isinstance(of, list):
        return [panel for inner in of for panel in panels(inner, kind)]
    if not isinstance(of, dict):
        return []
    own = [of["config"]] if of.get("viewType") == kind else []
    return own + [panel for inner in of.values() for panel in panels(inner, kind)]


def dry_run(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert dashboard.main(["pride/lions", f"--root={root}", "--dry-run", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_would_be_sent(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = dry_run(root, capsys, "--group", "mine")
    view = made["workspace"]
    assert (view["entity"], view["project"]) == ("pride", "lions")
    assert "PROXY" in view["displayName"]
    (runs,) = view["spec"]["section"]["runSets"]
    assert [key["name"] for key in runs["grouping"]] == GROUPS
    (group,) = runs["filters"]["filters"]
    assert (group["key"]["name"], group["value"]) == ("group", "mine")
    curves = panels(view, "Run History Line Plot")
    assert {curve["xAxis"] for curve in curves} == {FLOPS}
    bars = panels(view, "Bar Chart")
    told = {name for bar in bars for name in bar["metrics"]}
    assert "summary_metrics.mine/nDCG@10" in told
    # One size, so that bars by size would be one bar.
    assert {bar.get("groupBy") for bar in bars} == {None, *GROUPS}

    report = made["report"]
    chapters = [
        "".join(child["text"] for child in block["children"])
        for block in report["spec"]["blocks"]
        if block["type"] == "heading"
    ]
    training = [f"{p}: {name}" for p in ("sparse", "dense")
                for name in dashboard.WHILE_TRAINING]  # fmt: skip
    assert chapters == [*training, "scores on mine", "efficiency on mine"]
    assert "PROXY LADDER" in json.dumps(report["spec"]["blocks"][1])
    grids = [b["metadata"] for b in report["spec"]["blocks"] if b["type"] == "panel-grid"]
    # The study's losses first, then a stranger's; each filtered by both axes and the group.
    assert [one["name"] for one in grids[0]["runSets"]] == ["cl", "kd", "hinge"]
    filters = grids[0]["runSets"][2]["filters"]["filters"]
    found = {(one["key"]["name"], one["value"]) for one in filters}
    assert found == {("axis_paradigm", "sparse"), ("axis_loss", "hinge"), ("group", "mine")}


def test_every_panel_shows_what_a_cell_tells(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that nobody logs would be an empty panel."""
    folder = tmp_path / "written"
    folder.mkdir()
    health = [name.removeprefix("points/") for name in dashboard.HEALTH.values()]
    health += ["L0_queries", "L0_passages"]
    row, point = tracked_cell.row(1), tracked_cell.point(1) | dict.fromkeys(health, 0.5)
    (folder / "history.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "points.jsonl").write_text(json.dumps(point) + "\n")
    ((_, logged),) = Records(folder).new(1000.0)
    view = dry_run(root, capsys)["workspace"]
    shown = {name for one in panels(view, "Run History Line Plot") for name in one["metrics"]}
    assert shown <= logged.keys()
    efficiency = {"mine": dict.fromkeys(dashboard.EFFICIENCY, 1.0)}
    told = summary(RESULT | {"efficiency": efficiency})
    bars = {name for bar in panels(view, "Bar Chart") for name in bar["metrics"]}
    assert {name.removeprefix("summary_metrics.") for name in bars} <= told.keys()


def test_what_stops_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="write ENTITY/PROJECT"):
        dashboard.main(["lions", f"--root={root}", "--dry-run"])
    with pytest.raises(UserError, match="There are no cells below"):
        dashboard.main(["pride/lions", f"--root={tmp_path / 'none'}", "--dry-run"])
    with serving() as server:
        for name, value in server.environment("w" * 40).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        with pytest.raises(UserError, match="W&B did not take the workspace: "):
            dashboard.main(["pride/lions", f"--root={root}"])
