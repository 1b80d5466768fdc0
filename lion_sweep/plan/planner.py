"""From configurations to a plan: finds or makes the token caches, loads no weights."""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lion_sweep.cell.cell import Cell
from lion_sweep.cell.names import label
from lion_sweep.config import BudgetKind, Config, changed
from lion_sweep.config.site import SiteName
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.meter import Spending
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.plan.cells import CellPlan, GridPlan, SharedWork, steps_of_hours
from lion_sweep.plan.disk import Disk, disk
from lion_sweep.plan.estimate import Estimate
from lion_sweep.stages.backbone import Blueprint, blueprint, blueprint_offline
from lion_sweep.stages.base import Paid, Stage
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.filtered import Filter
from lion_sweep.stages.groups import MineByCell
from lion_sweep.stages.of_cell import stages_of
from lion_sweep.stages.search import Scored
from lion_sweep.stages.texts import Source
from lion_sweep.stages.workshop import Workshop


def large(source: Source, config: Config) -> bool:
    """Whether its texts are more than a command should read before it has said anything."""
    return source.bytes > 1e6 * config.site.login_mb


class Planner:
    """Plans settled cells; `offline` takes full-size decoders from configuration and local files
    alone, `waits` leaves large collections to whoever does the cells."""

    def __init__(self, site: SiteName, *, offline: bool = False, waits: bool = False) -> None:
        self.site, self.offline, self.waits = site, offline, waits
        self._cells: dict[int, Cell] = {}
        self._trainings: dict[int, CellPlan] = {}
        self._encodings: dict[tuple[Any, ...], Spending] = {}
        self._workshops: dict[Path, Workshop] = {}
        self._estimates: dict[Path, Estimate] = {}
        self._waiting: dict[int, bool] = {}

    def workshop(self, config: Config) -> Workshop:
        """Does the cheap stages that a plan reads."""
        root = Path(config.paths.root)
        how = Execution.of(config, self.site)
        return self._workshops.setdefault(root, Workshop(root, Progress(label(config), None), how))

    def cell(self, config: Config) -> Cell:
        """The cell of a settled configuration, whose id depends on what its files hold."""
        if id(config) not in self._cells:
            stages = stages_of(config, self.workshop(config), self._describe)
            self._cells[id(config)] = Cell(config, stages)  # keeps the configuration, so its id
        return self._cells[id(config)]

    def _describe(self, config: Config, shop: Workshop, own: Source) -> Blueprint:
        describe = blueprint_offline if self.offline else blueprint
        return describe(config, shop, own, waits=self.waits and large(own, config))

    def unread(self, config: Config) -> bool:
        """Whether texts of a cell wait to be read by whoever does it."""
        if self.waits and id(config) not in self._waiting:
            stages, shop = self.cell(config).stages, self.workshop(config)
            waiting = any(large(source, config) for source, _ in stages.sets.values())
            self._waiting[id(config)] = waiting and not all(map(shop.finished, stages.preparation))
        return self.waits and self._waiting[id(config)]

    def estimate(self, config: Config) -> Estimate | None:
        """What stands for the texts of a cell that wait to be read, and for negatives that a model
        is to find; None where neither is so."""
        groups = self.cell(config).stages.groups
        unmined = groups.encodes and not self.workshop(config).finished(groups)
        if not unmined and not self.unread(config):
            return None
        root = Path(config.paths.root)
        return self._estimates.setdefault(root, Estimate(self.workshop(config)))

    def settled(self, config: Config, reference: Config | None) -> Config:
        """With a number for its budget: FLOPs of the reference cell, or measured steps."""
        if reference is not None:
            flops = float(self.training(reference).fit.spending.useful_flops)
            config = changed(config, {"budget.flops": flops})
        if config.budget.kind is BudgetKind.gpu_hours:
            config = changed(config, {"budget.steps": steps_of_hours(self.training(config))})
        return config

    def training(self, config: Config) -> CellPlan:
        """A cell's plan as far as its training goes, without encoding."""
        stages = self.cell(config).stages
        if id(config) not in self._trainings:
            how, estimate = Execution.of(config, self.site), self.estimate(config)
            if estimate:
                fit, words = estimate.fit(stages.train.course, how), estimate.words(stages)
            else:
                course = stages.train.course
                fit, words = course.fit(course.counts(self.workshop(config), how.devices), how), ""
            self._trainings[id(config)] = CellPlan(config, stages, fit, estimate=words)
        return self._trainings[id(config)]

    def grid(self, configs: list[Config]) -> GridPlan:
        """A row per cell, and what cells share."""
        cells = []
        sharing: dict[Stage | str, list[CellPlan]] = defaultdict(list)
        for config in configs:
            cell = self.training(config)
            stages = cell.stages
            encoding = self._scoring(cell, *stages.trained.values())
            cells.append(replace(cell, encoding=encoding))
            sharing[stages.adapt].append(cell)
            sharing[stages.untrained.passages].append(cell)
            if stages.groups.encodes:
                sharing[stages.groups].append(cell)
            if stages.teacher:
                sharing[stages.teacher.family].append(cell)
        return GridPlan(cells, [self._shared(*pair) for pair in sharing.items()], self._disk(cells))

    def _disk(self, cells: list[CellPlan]) -> Disk:
        """What they leave."""
        return disk(
            (cell.stages, self.workshop(cell.config), partial(self._sizes, cell)) for cell in cells
        )

    def _sizes(self, cell: CellPlan, encode: Encode) -> tuple[int, int]:
        """(all texts, tokens of those to encode), or about so many, where nobody has read them."""
        texts, shop = encode.texts.cache.texts, self.workshop(cell.config)
        found = shop.find(texts)
        count = len(texts.read(shop)) if found else self._estimates[shop.root].sample(texts).total
        return count, self._encoding(cell, cell.stages.blueprint.shape, [encode]).tokens

    def _scoring(self, cell: CellPlan, *scored: Scored) -> Spending:
        """Encoding what is scored."""
        encodes = [encode for one in scored for encode in (one.passages, one.queries)]
        return self._encoding(cell, cell.stages.blueprint.shape, encodes)

    def _encoding(self, cell: CellPlan, shape: DecoderShape, encodes: list[Encode]) -> Spending:
        """By a decoder of some shape, equal texts once."""
        shop, estimate = self.workshop(cell.config), self.estimate(cell.config)
        batch_tokens, spent = cell.fit.execution.batch_tokens, Spending()
        for encode in dict.fromkeys(encodes):
            asked = None if encode.asked is None else str(encode.asked.identity)
            what = encode.sparse, encode.projected, str(encode.texts.identity)
            key = (shape, *what, asked, batch_tokens)
            if key not in self._encodings:
                lengths_N = estimate.encoded(encode) if estimate else encode.lengths(shop)
                self._encodings[key] = encode.meter(shape).texts(lengths_N, batch_tokens)
            spent += self._encodings[key]
        return spent

    def _shared(self, stage: Stage | str, sharing: list[CellPlan]) -> SharedWork:
        """A stage that these cells read, or what one teacher tells them, under the first's name."""
        cell, stages = sharing[0], sharing[0].stages
        config = cell.config
        size = f"{config.model.name} on {config.data.name}"
        if stage is stages.adapt:
            title, spending = f"adapt {size}", stages.adapt.planned()
        elif isinstance(stage, str):
            title = f"teacher {config.teacher.name} on {config.data.name}"
            if self.estimate(config):  # its pairs are mined yet
                return SharedWork(
                    f"{title}, whose pairs are not known yet", Spending(), 0.0, 0.0, len(sharing)
                )
            spending = self._teaching(sharing)
        elif stage is stages.groups:
            title, spending = self._mining(cell)
        else:
            title = f"encode untrained {config.paradigm.name} {size}"
            spending = self._scoring(cell, stages.untrained)
        hours = cell.gpu_hours(spending)
        return SharedWork(title, spending, cell.seconds(spending), hours, len(sharing))

    def _mining(self, cell: CellPlan) -> tuple[str, Spending]:
        """What negatives cost that a model finds, or drops, as far as that is known."""
        groups, shop, spending = cell.stages.groups, self.workshop(cell.config), Spending()
        title = f"negatives of {cell.config.data.name}"
        mined = groups.mined if isinstance(groups, Filter) else groups
        if isinstance(mined, MineByCell):
            shape = mined.weights.shape
            spending = self._encoding(cell, shape, [mined.passages, mined.queries])
        if isinstance(groups, Filter):
            if not shop.find(mined):
                return f"{title}, whose candidates are not known yet", spending
            paid = groups.paid(groups.drawn(shop))
            spending += sum((stage.planned(shop) for stage in paid), Spending())
        return title, spending

    def _teaching(self, cells: list[CellPlan]) -> Spending:
        """What one teacher costs several cells."""
        shop, paid = self.workshop(cells[0].config), dict[str, Paid]()
        for cell in cells:
            assert cell.stages.teacher is not None
            paid |= cell.stages.teacher.paid(shop, cell.fit.spending.steps)
        return sum((stage.planned(shop) for stage in paid.values()), Spending())
