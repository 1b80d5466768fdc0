"""From configurations to a plan: finds or makes the token caches, loads no weights."""

from collections import defaultdict
from dataclasses import replace

from lion_sweep import prepare, stage
from lion_sweep.blueprint import Blueprint, blueprint, blueprint_offline
from lion_sweep.cell import Cell, label
from lion_sweep.config import BudgetKind, Config
from lion_sweep.config_site import SiteName
from lion_sweep.data import tokens
from lion_sweep.data.collection import Collection
from lion_sweep.data.groups import Groups
from lion_sweep.devices import device
from lion_sweep.meter import Meter, Spending, planned_mntp
from lion_sweep.plan.cells import CellPlan, GridPlan, SharedWork
from lion_sweep.plan.training import TrainingPlan, settle
from lion_sweep.prepare import Workshop
from lion_sweep.progress import Progress
from lion_sweep.validation import needs_teacher


class Planner:
    """Plans cells; `offline` takes full-size decoders from configuration and local files alone."""

    def __init__(self, site: SiteName, *, offline: bool = False) -> None:
        self.site, self.offline = site, offline
        self._trainings: dict[int, TrainingPlan] = {}
        self._corpora: dict[tuple[Blueprint, str, int, int], Spending] = {}
        self._teachers: dict[str, Spending] = {}

    def workshop(self, config: Config) -> Workshop:
        """Runs the cheap stages that a plan reads."""
        return Workshop(config, Progress(label(config), None))

    def collection(self, config: Config) -> Collection:
        """The collection of a cell, outside any cell's folder."""
        return prepare.collection(Workshop(config, Progress(config.data.name, None)))

    def cell(self, config: Config) -> Cell:
        """The cell of a configuration, whose id depends on what its collection holds."""
        return Cell(config, self.collection(config).checksum)

    def adapted(self, config: Config) -> str:
        """The name of the stage that the cell starts from, done or not."""
        return stage.name_of("adapt", self.training(config).blueprint.adapting(config))

    def settle(self, config: Config, reference: Config | None) -> None:
        """Make the budget a number, in place: FLOPs of the reference cell, or measured steps."""
        if reference is not None:
            config.budget.flops = float(self.training(reference).spending.useful_flops)
        if config.budget.kind is BudgetKind.gpu_hours:
            settle(self.training(config))

    def training(self, config: Config) -> TrainingPlan:
        """A cell's training."""
        if id(config) not in self._trainings:
            workshop, texts = self.workshop(config), self.collection(config)
            describe = blueprint_offline if self.offline else blueprint
            groups = prepare.mined_groups(workshop, texts)
            machine = device(replace(config.site, name=self.site))
            assert config.site.devices is not None  # site.settle
            self._trainings[id(config)] = TrainingPlan.of(
                config, describe(workshop, texts), groups, machine, config.site.devices
            )
        return self._trainings[id(config)]

    def plan(self, config: Config) -> CellPlan:
        """One row."""
        training = self.training(config)
        return CellPlan(training, self._encoding(training))

    def grid(self, configs: list[Config]) -> GridPlan:
        """All rows, and what they share."""
        cells = [self.plan(config) for config in configs]
        return GridPlan(cells, self._shared(cells))

    def _encoding(self, training: TrainingPlan) -> Spending:
        """Encoding the collection and the test queries once."""
        config, evaluation = training.config, training.config.evaluation
        lengths = (evaluation.query_length, evaluation.passage_length)
        key = (training.blueprint, config.paradigm.name, *lengths)
        if key not in self._corpora:
            sparse = config.paradigm.name == "sparse"
            meter = Meter.of_encoding(training.blueprint.shape, max(lengths), sparse=sparse)
            texts, folder = self.collection(config), training.blueprint.tokens
            row = {identifier: number for number, identifier in enumerate(texts.queries)}
            test = [row[query] for query in texts.qrels[config.data.test_split]]
            query_N, passage_N = (
                tokens.read(folder, name).lengths(length)
                for name, length in zip(("queries", "passages"), lengths, strict=True)
            )
            spent = [
                meter.texts(length_N, evaluation.batch_tokens)
                for length_N in (passage_N, query_N[test])
            ]
            self._corpora[key] = spent[0] + spent[1]
        return self._corpora[key]

    def _shared(self, cells: list[CellPlan]) -> list[SharedWork]:
        """Stages that several cells read, each once."""
        found: dict[str, list[tuple[CellPlan, Spending]]] = defaultdict(list)
        for cell in cells:
            training, config = cell.training, cell.training.config
            adapted = planned_mntp(training.blueprint.shape, config.recipe, training.devices)
            size = f"{config.model.name} on {config.data.name}"
            found[f"adapt {size}"].append((cell, adapted))
            found[f"encode untrained {config.paradigm.name} {size}"].append((cell, cell.encoding))
            if needs_teacher(config):
                title = f"teacher {config.teacher.name} on {config.data.name}"
                if title not in self._teachers:
                    self._teachers[title] = self._teacher(config)
                found[title].append((cell, self._teachers[title]))
        works = []
        for title, sharing in found.items():
            cell, spending = sharing[0]
            training = cell.training
            works.append(
                SharedWork(
                    title,
                    spending,
                    training.seconds(spending),
                    training.gpu_hours(spending),
                    len(sharing),
                )
            )
        return works

    def _teacher(self, config: Config) -> Spending:
        workshop, texts = self.workshop(config), self.collection(config)
        encoder = prepare.teacher_encoder(workshop, texts)
        if encoder is None:
            return Spending()
        return encoder.planned(Groups.load(prepare.mined_groups(workshop, texts)))
