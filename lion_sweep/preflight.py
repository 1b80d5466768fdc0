"""What is checked before the first cell of a command runs; one bad cell refuses the whole grid."""

import sys
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

from lion_sweep.cell.cell import Cell
from lion_sweep.cell.names import UNSET, Settings, differing, label, settings
from lion_sweep.cell.prepare import refuse_unequal
from lion_sweep.config import Config, LadderName, read_config
from lion_sweep.config.composing import CONFIG
from lion_sweep.config.ladder import CAVEATS
from lion_sweep.config.secrets import refuse_secrets
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.evaluation.measures import mean
from lion_sweep.machine.site import check_output, choose, settle
from lion_sweep.plan.cells import CellPlan, GridPlan
from lion_sweep.plan.disk import refuse, refuse_texts
from lion_sweep.plan.planner import Planner
from lion_sweep.result import RESULT, of_another
from lion_sweep.stages.named_cells import settled_cells
from lion_sweep.stages.search import bm25
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.validation import check_machine, validate

KEYS = 4  # that two cells are said to differ in


def check(configs: list[Config]) -> tuple[SiteName, list[Config]]:
    """The site that `auto` is and the configurations settled there, unless one is impossible."""
    root = Path(configs[0].paths.root)
    check_output(root)
    name_older(root)
    chosen, why = choose(configs[0].site.name)
    print(f"site: {chosen.name} ({why})", flush=True)
    settled = []
    for config in configs:
        refuse_secrets(config)
        validate(config)
        settled.append(settled_cells(settle(config, chosen)))
        check_machine(settled[-1], chosen)
    for ladder in dict.fromkeys(config.ladder.name for config in configs):
        if caveat := CAVEATS.get(ladder):
            print(caveat.warning, flush=True)
    return chosen, settled


def name_older(root: Path) -> None:
    """Say how many finished cells of another version lie there, which nothing takes for new."""
    older = [path for path in sorted(root.glob(f"cells/*/{RESULT}")) if of_another(path)]
    if older:
        print(
            f"{root}: {len(older)} finished cells are of another version of lion_sweep, such as "
            f"{older[0].parent.name}: they are left as they are, and not used.",
            flush=True,
        )


def name_alike(cells: list[Cell]) -> None:
    """Say in what new cells differ from some that are there already under the same name.

    A grid given again after an edit of conf/ would otherwise start another one beside the first
    without a word.
    """
    root, own = cells[0].folder.parent, {cell.id for cell in cells}
    there: dict[tuple[str, str], list[Settings]] = defaultdict(list)
    for path in sorted(root.glob(f"*/{CONFIG}")):
        if path.parent.name not in own:
            with suppress(UserError):  # of another version
                config = read_config(path.parent)
                there[label(config), config.ladder.name].append(settings(config))
    found: Counter[str] = Counter()
    for cell in cells:
        if cell.folder.exists():
            continue
        mine, others = settings(cell.config), there[label(cell.config), cell.config.ladder.name]
        apart = [(differing([mine, other]), other) for other in others]
        if apart:
            keys, other = min(apart, key=lambda pair: len(pair[0]))
            found[_apart(mine, other, keys)] += 1
    for words, count in found.items():
        many = "a cell that is" if count == 1 else f"{count} cells that are"
        print(f"{root}: beside {many} there already, but for {words}.", flush=True)


def _apart(mine: Settings, other: Settings, keys: list[str]) -> str:
    said = [f"{key}={mine.get(key, UNSET)} (there {other.get(key, UNSET)})" for key in keys[:KEYS]]
    more = [f"{len(keys) - KEYS} more keys"] if len(keys) > KEYS else []
    return ", ".join([*said, *more]) or "the content of files, or the code"


def introduce(planner: Planner, config: Config) -> None:
    """Print what the collections hold, and how BM25 fares on the one that cells train on."""
    shop, sets = planner.workshop(config), evaluation_sets(config, planner.workshop(config))
    refuse_texts([source for source, _ in sets.values()], shop)
    waiting = planner.estimate(config)
    if waiting and planner.unread(config):
        stages = planner.cell(config).stages
        print(
            f"{', '.join(stages.sets)}: to be read by a job of its own, which cells wait for;",
            flush=True,
        )
        print(f"  {waiting.words(stages)}", flush=True)
        return
    for name, (source, split) in sets.items():
        texts = source.read(shop)
        judged = [f"{len(one.asked)} {of} queries" for of, one in texts.judged.items()]
        words = [name, f"{len(texts.documents)} passages", *judged]
        if name == config.data.name:
            means = mean(bm25(config, source, split).scores(shop))
            measure, value = next(iter(means.items()))
            words.append(f"BM25 {measure} {value:.4f}")
        print(f"collection: {', '.join(words)}, checksum {texts.checksum}", flush=True)
        for line in texts.told():
            print(line, flush=True)


def approve(planner: Planner, configs: list[Config]) -> None:
    """Refuse cells that do not fit, that would not cost the same, or that nobody has confirmed."""
    to_do = [config for config in configs if not planner.cell(config).complete]
    grid = planner.grid(to_do)
    refuse_misfits(grid.cells)
    refuse(Path(configs[0].paths.root), grid.disk.total, "vectors and weights take")
    refuse_unequal(map(planner.cell, configs), lambda cell: _useful_flops(planner, cell))
    full = [cell for cell in grid.cells if cell.config.ladder is LadderName.full]
    if full:
        confirm(grid, full[0].config)


def _useful_flops(planner: Planner, cell: Cell) -> int:
    if cell.complete:
        return int(cell.read_result()["ledger"]["train"]["planned"]["useful_flops"])
    return planner.training(cell.config).fit.spending.useful_flops


def refuse_misfits(cells: list[CellPlan]) -> None:
    misfits = [cell for cell in cells if cell.obstacles]
    words = (f"{label(cell.config)} {'; '.join(cell.obstacles)}." for cell in misfits)
    if misfits:
        raise UserError("\n".join(words))


def confirm(grid: GridPlan, config: Config) -> None:
    """Ask before a full-size grid that takes many GPU-hours, or nobody knows how many."""
    hours, limit = grid.gpu_hours, config.budget.confirm_gpu_hours
    if config.confirm or (hours is not None and hours <= limit):
        return
    price = config.site.price
    cost = "" if price is None or hours is None else f", {hours * price:,.0f} at {price:g} an hour"
    takes = "an unknown number of" if hours is None else f"about {hours:,.0f}"
    message = f"This grid takes {takes} GPU-hours{cost}; budget.confirm_gpu_hours={limit:g}."
    if not sys.stdin.isatty():
        raise UserError(
            f"{message} Look at it with python -m lion_sweep.plan and the same overrides; start it "
            "with confirm=true."
        )
    if input(f"{message} Start it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("Not started.")
