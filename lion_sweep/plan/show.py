"""A plan as a table for a terminal, as CSV, as JSON."""

import csv
import io
import json
from typing import Any

from lion_sweep.config.ladder import CAVEATS
from lion_sweep.machine.devices import GIB
from lion_sweep.machine.progress import duration
from lion_sweep.plan.cells import GridPlan

UNKNOWN = "-"
HEADER = ["cell", "steps", "epochs", "tokens", "useful", "of budget", "hardware", "GiB"]
HEADER += ["weights", "activ.", "head", "optim.", "step", "time", "GPU-h", "cost", "fits"]


def as_json(plan: GridPlan) -> str:
    """All that is known; null is unknown."""
    return json.dumps(plan.as_dict(), indent=2)


def as_csv(plan: GridPlan) -> str:
    """A row per cell; nested keys joined with a dot."""
    rows = [_flat(row) for row in plan.as_dict()["cells"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = "; ".join(value) if isinstance(value, list) else value
    return flat


def as_table(plan: GridPlan) -> str:
    """A row per cell, what cells share, totals, and every assumption in words."""
    whole = plan.as_dict()
    rows = [HEADER, *(_row(row) for row in whole["cells"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([name.ljust(widths[0]), *map(str.rjust, texts, widths[1:])])
        for name, *texts in rows
    ]
    shared = [
        f"  {work['title']}: {work['useful_flops']:.3g} FLOPs, {_time(work['seconds'])}"
        for work in whole["shared"]
    ]
    return "\n".join([*lines, "", "once for all cells that share it:", *shared, "", *_below(whole)])


def _row(row: dict[str, Any]) -> list[str]:
    memory = row["memory"]
    parts = [memory[part] for part in ("weights", "activations", "head", "optimiser")]
    return [
        row["name"],
        f"{row['steps']:,}",
        f"{row['epochs']:.2f}",
        f"{row['tokens']:.3g}",
        f"{row['useful_flops']:.3g}",
        UNKNOWN if row["deviation"] is None else f"{row['deviation']:+.3%}",
        f"{row['hardware_flops']:.3g}",
        *(
            f"{size / GIB:.2f}" if size < 10 * GIB else f"{size / GIB:.1f}"
            for size in [row["memory_bytes"], *parts]
        ),
        UNKNOWN if row["step_seconds"] is None else f"{row['step_seconds']:.3g} s",
        _time(row["seconds"]),
        UNKNOWN if row["gpu_hours"] is None else f"{row['gpu_hours']:,.1f}",
        UNKNOWN if row["cost"] is None else f"{row['cost']:,.0f}",
        "yes" if row["fits"] else "NO",
    ]


def _below(whole: dict[str, Any]) -> list[str]:
    cells, total = whole["cells"], whole["total"]
    hours, cost = total["gpu_hours"], total["cost"]
    parts = [
        f"{total['cells']} cells: {total['useful_flops']:.3g} useful FLOPs "
        f"({total['train_useful_flops']:.3g} of them training)",
        f"{total['hardware_flops']:.3g} executed",
        "time unknown" if total["seconds"] is None else f"{_time(total['seconds'])} one by one",
        *([] if hours is None else [f"{hours:,.1f} GPU-hours"]),
        *([] if cost is None else [f"cost {cost:,.0f}"]),
    ]
    devices = sorted({f"{row['devices']} x {row['device']}" for row in cells})
    several = len({row["budget_flops"] for row in cells}) > 1
    among = " among cells of one budget, at most" if several else ""
    rates = sorted({row["time_from"] or "unknown (no peak is published)" for row in cells})
    lines = [
        ", ".join(parts),
        f"spread of useful training FLOPs{among}: {whole['spread']:.3%}",
        f"devices of a cell: {', '.join(devices)}; step time: {', '.join(rates)}; "
        "time, GPU-hours and cost are of training and encoding; GiB are a device's, predicted",
    ]
    if sharded := [row["name"] for row in cells if row["sharded"]]:
        lines.append(
            f"frozen layers are sharded over a cell's devices in {', '.join(sharded)}; times are "
            "without gathering them unless measured"
        )
    lines += dict.fromkeys(row["estimate"] for row in cells if row["estimate"])
    lines += [
        f"{row['name']} does not fit: {'; '.join(row['obstacles'])}"
        for row in cells
        if not row["fits"]
    ]
    vectors, weights, unbounded = total["disk"].values()
    more = ", besides sparse vectors, whose entries are not known yet" if unbounded else ""
    lines.append(
        f"disk: vectors take {vectors / 1e9:,.1f} GB and weights {weights / 1e9:,.1f} GB{more}"
    )
    ladders = dict.fromkeys(row["ladder"] for row in cells)
    return [*lines, *(CAVEATS[name].warning for name in ladders if name in CAVEATS)]


def _time(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else duration(seconds)
