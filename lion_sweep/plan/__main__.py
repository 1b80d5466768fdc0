"""`python -m lion_sweep.plan`: the same overrides as `python -m lion_sweep`, and nothing runs.

`--calibrate` runs a few real steps of every cell that has none measured on this machine yet.
"""

import contextlib
import os
import sys
from pathlib import Path

from lion_sweep import grid
from lion_sweep.config.schema import Config, PlanFormat
from lion_sweep.config.site import SiteName
from lion_sweep.machine.site import check_output, choose, settle
from lion_sweep.plan import show
from lion_sweep.plan.planner import Planner
from lion_sweep.stages.named_cells import settled_cells
from lion_sweep.stages.validation import validate

FORMATS = {
    PlanFormat.table: show.as_table,
    PlanFormat.json: show.as_json,
    PlanFormat.csv: show.as_csv,
}


def plan(configs: list[Config], references: list[Config | None]) -> int:
    """Print what the cells of a command would take, instead of running them."""
    first = configs[0]
    with contextlib.redirect_stdout(sys.stderr):  # stdout is the plan's alone
        for config in [*configs, *filter(None, references)]:
            validate(config)
        check_output(Path(first.paths.root))
        name, device, calibrates = first.site.name, first.site.device, first.plan.calibrate
        if (device == "auto" and name is not SiteName.slurm) or calibrates:
            name, _ = choose(name)
        else:
            name = SiteName.laptop if device == "cpu" else SiteName.gpu
        planner = Planner(name, offline=True, waits=not (calibrates or any(references)))
        settled = [settled_cells(settle(c, c.site.name, name)) for c in configs]
        anchors = [r and settled_cells(settle(r, r.site.name, name)) for r in references]
        if calibrates:
            from lion_sweep.plan.calibration import calibrate

            for config in settled:
                calibrate(planner, config)
        cells = [planner.settled(*pair) for pair in zip(settled, anchors, strict=True)]
        text = FORMATS[first.plan.format](planner.grid(cells))
    print(text, flush=True)
    return grid.COMPLETE


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    if "--calibrate" in sys.argv:
        sys.argv.remove("--calibrate")
        sys.argv.append("plan.calibrate=true")
    grid.start(plan)
