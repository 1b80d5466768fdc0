"""`python -m lion_sweep.reproduce RESULT`: do a cell again, of its result.json alone, and compare.

RESULT is the file, or a folder that has it. Everything is done anew below ROOT (`reproduced`, where
nothing else is said), by the configuration that the result holds, with data, decoders and teachers
from where it says they are. They have to be what they were: then the cell has the same id. Where it
has another one, the first of its stages that differs is told, and nothing runs. What differs in
code, versions and machine is said. Leaves with 0 where all numbers, runs and values per query come
out as they were, to the bit, and with 1 where they do not.
"""

from pathlib import Path
from typing import Any

import torch

from launch import launcher_for
from lion_sweep import command
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.work import machine
from lion_sweep.config import Config, changed
from lion_sweep.config.composing import config_of
from lion_sweep.config.schema import TrackerKind
from lion_sweep.diff import DIFFERENT, EQUAL, differences, of_numbers, of_surroundings, sections
from lion_sweep.errors import UserError
from lion_sweep.grid import COMPLETE, Session
from lion_sweep.machine.site import check_output, settle
from lion_sweep.plan.planner import Planner
from lion_sweep.result import RESULT, Result, read_result
from lion_sweep.stages.named_cells import settled_cells

FOLDER = Path("reproduced")
FILES = "runs/", "per_query/"  # beside a result, without seconds in them


def main(words: list[str]) -> int:
    """The exit status. Raises `UserError` where it would be another cell."""
    parser = command.parser("reproduce", __doc__)
    parser.set_defaults(root=FOLDER)
    parser.add_argument("result", type=Path, metavar="RESULT", help="result.json, or its folder")
    asked = command.parse(parser, words)
    path = asked.result / RESULT if asked.result.is_dir() else asked.result
    told = read_result(path)
    if threads := told["environment"].get("threads"):
        torch.set_num_threads(threads)  # among which sums are shared out
    config = _here(config_of(told["config"], path), path, asked.root)
    check_output(asked.root)
    cell = _cell(config)
    _refuse_another(cell, told)
    status = Session(launcher_for).run([config], [None])
    if status != COMPLETE:
        return status
    found = compare(told, cell.read_result())
    print("\n".join(sections(found)))
    return DIFFERENT if found["numbers"] or found["files"] else EQUAL


def compare(told: Result, found: Result) -> dict[str, Any]:
    """What differs, by what it is of."""
    ours, theirs = (
        {name: digest for name, (_, digest) in one["files"].items() if name.startswith(FILES)}
        for one in (told, found)
    )
    return {
        "environment": of_surroundings(told, found),
        "numbers": of_numbers(told, found),
        "files": differences(ours, theirs),
    }


def _here(config: Config, path: Path, root: Path) -> Config:
    """The configuration for this machine: what changes where it runs changes no number of it."""
    values: dict[str, Any] = {"paths.root": str(root), "site.name": machine()}
    values |= {"site.devices": None, "tracking.kind": TrackerKind.none}
    cells = path.resolve().parent.parent  # where cells lie that it was taught, or mined, by
    scorers = dict(config.teacher.scorers)
    for name, scorer in scorers.items():
        if (cells / str(scorer.get("cell")) / RESULT).is_file():
            scorers[name] = scorer | {"cell": str(cells / scorer["cell"])}
    values["teacher.scorers"] = scorers
    if (cells / str(config.negatives.cell) / RESULT).is_file():
        values["negatives.cell"] = str(cells / str(config.negatives.cell))
    return changed(config, values)


def _cell(config: Config) -> Cell:
    """As it comes out here; nothing heavy is done."""
    planner = Planner(machine())
    return planner.cell(planner.settled(settled_cells(settle(config, machine())), None))


def _refuse_another(cell: Cell, told: Result) -> None:
    if cell.id == told["id"]:
        return
    known = {title: stage["folder"] for title, stage in told["stages"].items()}
    for title, stage in cell.stages.roles.items():
        if stage.name != known.get(title):
            raise UserError(
                f"{told['id']} cannot be done again here: its {title} would be {stage.name}, and "
                f"was {known.get(title, 'not there')}. What that reads has changed, or the code "
                f"has ({_commit(told)}): check out that commit, and have its data where they were."
            )
    raise UserError(f"{told['id']} would be {cell.id} here: the code has changed ({_commit(told)})")


def _commit(told: Result) -> str:
    return f"the result is of commit {told['environment'].get('commit') or 'unknown'}"


if __name__ == "__main__":
    command.quiet()
    command.run(main)
