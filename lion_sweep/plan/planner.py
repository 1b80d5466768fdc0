"""From configurations to a plan: finds or makes the token caches, loads no weights."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lion_sweep.cell.cell import Cell
from lion_sweep.cell.names import label
from lion_sweep.config import BudgetKind, Config, changed
from lion_sweep.config.site import SiteName
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.plan.cells import CellPlan, GridPlan, SharedWork
from lion_sweep.plan.training import TrainingPlan, steps_of_hours
from lion_sweep.stages.backbone import blueprint, blueprint_offline
from lion_sweep.stages.base import Stage
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.of_cell import stages_of
from lion_sweep.stages.workshop import Workshop

Priced = tuple[DecoderShape, int, str, str | None]


class Planner:
    """Plans settled cells; `offline` takes full-size decoders from configuration and local files
    alone."""

    def __init__(self, site: SiteName, *, offline: bool = False) -> None:
        self.site, self.offline = site, offline
        self._cells: dict[int, tuple[Config, Cell]] = {}
        self._trainings: dict[int, TrainingPlan] = {}
        self._encodings: dict[Priced, Spending] = {}
        self._shared: dict[str, Spending] = {}
        self._workshops: dict[Path, Workshop] = {}

    def workshop(self, config: Config) -> Workshop:
        """Does the cheap stages that a plan reads."""
        root = Path(config.paths.root)
        if root not in self._workshops:
            self._workshops[root] = Workshop(root, Progress(label(config), None))
        return self._workshops[root]

    def cell(self, config: Config) -> Cell:
        """The cell of a settled configuration, whose id depends on what its files hold."""
        if id(config) not in self._cells:
            describe = blueprint_offline if self.offline else blueprint
            stages = stages_of(config, self.workshop(config), describe)
            self._cells[id(config)] = config, Cell(config, stages)
        return self._cells[id(config)][1]

    def settled(self, config: Config, reference: Config | None) -> Config:
        """With a number for its budget: FLOPs of the reference cell, or measured steps."""
        if reference is not None:
            flops = float(self.training(reference).spending.useful_flops)
            config = changed(config, {"budget.flops": flops})
        if config.budget.kind is BudgetKind.gpu_hours:
            config = changed(config, {"budget.steps": steps_of_hours(self.training(config))})
        return config

    def execution(self, config: Config) -> Execution:
        """How a cell's stages are carried out."""
        return Execution.of(config, self.site)

    def training(self, config: Config) -> TrainingPlan:
        """A cell's training."""
        stages = self.cell(config).stages
        if id(config) not in self._trainings:
            train = stages.train
            fit = train.fit(self.workshop(config), self.execution(config), train.untaught)
            self._trainings[id(config)] = TrainingPlan(config, stages, fit)
        return self._trainings[id(config)]

    def plan(self, config: Config) -> CellPlan:
        """One row."""
        training = self.training(config)
        trained = training.stages.trained.values()
        encoded = [encode for found in trained for encode in (found.passages, found.queries)]
        return CellPlan(training, self._encoding(training, encoded))

    def grid(self, configs: list[Config]) -> GridPlan:
        """All rows, and what they share."""
        cells = [self.plan(config) for config in configs]
        return GridPlan(cells, self._works(cells))

    def _encoding(self, training: TrainingPlan, encoded: list[Encode]) -> Spending:
        """Encoding these texts, equal ones once."""
        shape, shop = training.blueprint.shape, self.workshop(training.config)
        batch_tokens = training.fit.execution.batch_tokens
        spent = Spending()
        for encode in dict.fromkeys(encoded):
            asked = None if encode.asked is None else str(encode.asked.identity)
            key = (shape, encode.sparse, str(encode.texts.identity), asked)
            if key not in self._encodings:
                length_N: NDArray[np.int64] = encode.lengths(shop)
                meter = Meter.of_encoding(shape, encode.texts.length, sparse=encode.sparse)
                self._encodings[key] = meter.texts(length_N, batch_tokens)
            spent += self._encodings[key]
        return spent

    def _works(self, cells: list[CellPlan]) -> list[SharedWork]:
        """Stages that several cells read, each once, however many configurations name it."""
        found: dict[Stage, tuple[str, Spending]] = {}
        sharing: dict[Stage, list[CellPlan]] = defaultdict(list)
        for cell in cells:
            training, config, stages = cell.training, cell.training.config, cell.training.stages
            size = f"{config.model.name} on {config.data.name}"
            untrained = stages.untrained
            works: dict[Stage, tuple[str, Spending]] = {
                stages.adapt: (f"adapt {size}", stages.adapt.planned()),
                untrained.passages: (
                    f"encode untrained {config.paradigm.name} {size}",
                    self._encoding(training, [untrained.passages, untrained.queries]),
                ),
            }
            if stages.teacher:
                title = f"teacher {config.teacher.name} on {config.data.name}"
                if stages.teacher.name not in self._shared:
                    planned = stages.teacher.planned(self.workshop(config))
                    self._shared[stages.teacher.name] = planned
                works[stages.teacher] = title, self._shared[stages.teacher.name]
            for stage, work in works.items():
                found.setdefault(stage, work)
                sharing[stage].append(cell)
        return [
            SharedWork(
                title,
                spending,
                sharing[stage][0].training.seconds(spending),
                sharing[stage][0].training.gpu_hours(spending),
                len(sharing[stage]),
            )
            for stage, (title, spending) in found.items()
        ]
