"""`python -m lion_sweep.dashboard ENTITY/PROJECT`: a workspace and a report of a grid on W&B.

Both are made from the cells below the folder of outputs, finished or not: a section for each
collection, a chapter for each paradigm, a set of runs for each loss. The package
wandb-workspaces is needed.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep import command
from lion_sweep.config.ladder import CAVEATS, LABELS
from lion_sweep.config.schema import AXES
from lion_sweep.errors import UserError
from lion_sweep.machine.tracked import FLOPS
from lion_sweep.report.axes import STUDY
from lion_sweep.report.collect import collect, unfinished

MISSING = "dashboards need a package more: pip install 'wandb-workspaces>=0.4'"
# What says how a training goes, and how good the model is on the way, by the title of the panel.
CURVES = {
    "loss": "train/loss",
    "gradient norm": "train/gradient_norm",
    "learning rate": "train/learning_rate",
    "tokens per second": "train/tokens_per_second",
    "MFU": "train/mfu",
}
POINTS = {
    "contrastive entropy (nats)": "points/entropy",
    "MRR@10 in the pool": "points/MRR@10",
    "L0 of queries": "points/L0_queries",
    "L0 of passages": "points/L0_passages",
}
# Whether vectors still tell texts apart, see training/health.py.
HEALTH = {
    "mean cosine of two queries": "points/cosine_queries",
    "mean cosine of two passages": "points/cosine_passages",
    "deviation of a query's scores": "points/spread",
    "lookahead": "points/lookahead",
    "numbers that are not finite, share": "points/not_finite",
    "queries without a term, share": "points/empty_queries",
    "passages without a term, share": "points/empty_passages",
    "always-on terms of queries": "points/always_on_queries",
    "always-on terms of passages": "points/always_on_passages",
    "maxima at the first token, share": "points/first_token",
    "sink, share": "points/sink",
    "regulariser over the rest of the loss": "points/regulariser",
}
WHILE_TRAINING = {
    "training": CURVES,
    "evaluation while training": POINTS,
    "health while training": HEALTH,
}
# Of a collection, by the last word of the summary's name.
EFFICIENCY = (
    "L0_documents",
    "L0_queries",
    "flops",
    "index_bytes",
    "encode_seconds",
    "search_seconds",
)


@dataclass(frozen=True)
class Grid:
    """What there is to show: a group of runs, their options, and what they are scored by."""

    entity: str
    project: str
    group: str | None  # None: all runs of the project
    options: dict[str, list[str]]  # by axis
    measures: dict[str, list[str]]  # by collection
    ladder: str  # of several, one whose models have to be told apart from those of the real sizes

    @property
    def name(self) -> str:
        """Of the workspace and the report; what has to be said of the models stands in it."""
        grid = f"lion_sweep {self.group or 'all grids'}"
        caveat = CAVEATS.get(self.ladder)
        return f"{grid} ({caveat.short})" if caveat else grid


def grid_of(root: Path, target: str, group: str | None) -> Grid:
    """From the cells below a folder. Raises `UserError` where there are none."""
    entity, _, project = target.partition("/")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", target):
        raise UserError(
            f"'{target}' names no project of W&B: write ENTITY/PROJECT, as in me/lions."
        )
    results = collect(root)
    cells = [*(result.asked for result in results), *unfinished(root)]
    if not cells:
        raise UserError(
            f"There are no cells below {root / 'cells'}, and the panels are those of cells: start "
            "a grid, or name its folder with --root."
        )
    options = {axis: _ordered(axis, [cell.axes[axis] for cell in cells]) for axis in AXES}
    measures: dict[str, list[str]] = {}
    for result in results:
        for collection, scores in result.scores.items():
            known = measures.setdefault(collection, [])
            known += [measure for measure in scores if measure not in known]
    ladder = min((cell.ladder for cell in cells), key=lambda name: name not in CAVEATS)
    return Grid(entity, project, group, options, measures, ladder)


def _ordered(axis: str, values: Sequence[str]) -> list[str]:
    """The study's order, and what it does not have after that, by name."""
    known = [value for value in STUDY.get(axis, ()) if value in values]
    return [*known, *sorted(set(values) - set(known))]


def _panels(grid: Grid) -> dict[str, list[Any]]:
    """Panels by section. Scores are bars by axis, the rest lines over FLOPs or bars by run."""
    import wandb_workspaces.reports.v2 as wr

    def lines(titles: dict[str, str]) -> list[Any]:
        axis: dict[str, Any] = {"x": FLOPS, "title_x": "useful FLOPs of training"}
        return [wr.LinePlot(title=title, y=[name], **axis) for title, name in titles.items()]

    def bars(title: str, name: str, axis: str | None = None) -> Any:
        of_axis: dict[str, Any] = (
            {"groupby": wr.Config(f"axis_{axis}"), "groupby_aggfunc": "mean"} if axis else {}
        )
        return wr.BarPlot(title=title, metrics=[wr.SummaryMetric(name)], **of_axis)

    found = {name: lines(titles) for name, titles in WHILE_TRAINING.items()}
    for collection, measures in grid.measures.items():
        scores = [
            bars(f"{measure} by {axis}", f"{collection}/{measure}", axis)
            for measure in measures
            for axis in AXES
            if len(grid.options[axis]) > 1
        ]
        whole = [bars(measure, f"{collection}/{measure}") for measure in measures]
        found[f"scores on {collection}"] = [*whole, *scores]
        found[f"efficiency on {collection}"] = [
            bars(name.replace("_", " "), f"efficiency/{collection}/{name}") for name in EFFICIENCY
        ]
    return found


def workspace(grid: Grid) -> Any:
    """A saved view of the project, runs grouped by loss and paradigm."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    sections = [
        ws.Section(name=name, panels=panels, is_open=True) for name, panels in _panels(grid).items()
    ]
    pinned = [f"summary:{c}/{measures[0]}" for c, measures in grid.measures.items()]
    return ws.Workspace(
        entity=grid.entity,
        project=grid.project,
        name=grid.name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=FLOPS, max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=[expr.Metric("Group") == grid.group] if grid.group else [],
            groupby=[expr.Config(f"axis_{axis}") for axis in ("loss", "paradigm")],
            pinned_columns=pinned,
        ),
    )


def report(grid: Grid) -> Any:
    """A chapter for each paradigm, in which each loss is a set of runs; then scores of all."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    def runs(name: str, **axes: str) -> Any:
        filters = [expr.Config(f"axis_{axis}") == value for axis, value in axes.items()]
        filters += [expr.Metric("Group") == grid.group] if grid.group else []
        return wr.Runset(name=name, filters=filters)

    panels = _panels(grid)
    blocks: list[Any] = [wr.P(LABELS[grid.ladder]), wr.TableOfContents()]
    for paradigm in grid.options["paradigm"]:
        sets = [runs(loss, paradigm=paradigm, loss=loss) for loss in grid.options["loss"]]
        for name in WHILE_TRAINING:
            blocks += [
                wr.H1(f"{paradigm}: {name}"),
                wr.PanelGrid(runsets=sets, panels=panels[name]),
            ]
    for name, drawn in panels.items():
        if name.startswith(("scores", "efficiency")):
            blocks += [wr.H1(name), wr.PanelGrid(runsets=[runs("all cells")], panels=drawn)]
    return wr.Report(
        entity=grid.entity, project=grid.project, title=grid.name, blocks=blocks, width="fluid"
    )


def serialised(made: Any) -> dict[str, Any]:
    """What W&B is sent of a workspace or a report."""
    return json.loads(made._to_model().model_dump_json(by_alias=True, exclude_none=True))


def _options() -> command.Parser:
    made = command.parser("dashboard", __doc__)
    made.add_argument("target", metavar="ENTITY/PROJECT", help="where the grid's runs are")
    said = "only the runs of this group, as tracking.group names it; else all of the project"
    made.add_argument("--group", help=said)
    said = "print what would be sent, as JSON, and reach nobody"
    made.add_argument("--dry-run", action="store_true", help=said)
    return made


def main(words: Sequence[str]) -> int:
    """Write both, or print them."""
    options = command.parse(_options(), words)
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError:
        raise UserError(MISSING) from None
    grid = grid_of(options.root, options.target, options.group)
    made = {"workspace": workspace(grid), "report": report(grid)}
    if options.dry_run:
        print(json.dumps({name: serialised(one) for name, one in made.items()}, indent=2))
        return 0
    if not grid.measures:
        print("no cell is finished: panels of scores are left out", file=sys.stderr)
    for name, one in made.items():
        try:
            one.save()
        except Exception as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"W&B did not take the {name}: {why}") from None
        print(f"{name}: {one.url}")
    return 0


if __name__ == "__main__":
    command.run(main)
