"""From configurations to a plan: finds or makes the token caches, loads no weights."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lion_sweep import prepare, stage
from lion_sweep.blueprint import blueprint, blueprint_offline
from lion_sweep.cell import Cell, label
from lion_sweep.config import BudgetKind, Config
from lion_sweep.config_site import SiteName
from lion_sweep.data import tokens
from lion_sweep.data.collection import Collection
from lion_sweep.data.groups import Groups
from lion_sweep.data.texts import Texts
from lion_sweep.devices import device
from lion_sweep.ledger import DecoderShape
from lion_sweep.meter import Meter, Spending, planned_mntp
from lion_sweep.plan.cells import CellPlan, GridPlan, SharedWork
from lion_sweep.plan.training import TrainingPlan, settle
from lion_sweep.prepare import EvaluationSets, Workshop
from lion_sweep.progress import Progress
from lion_sweep.stage import key_of
from lion_sweep.validation import needs_teacher


class Planner:
    """Plans cells; `offline` takes full-size decoders from configuration and local files alone."""

    def __init__(self, site: SiteName, *, offline: bool = False) -> None:
        self.site, self.offline = site, offline
        self._trainings: dict[int, TrainingPlan] = {}
        self._encodings: dict[tuple[DecoderShape, bool, Path, str, int], Spending] = {}
        self._teachers: dict[str, Spending] = {}

    def workshop(self, config: Config) -> Workshop:
        """Runs the cheap stages that a plan reads."""
        return Workshop(config, Progress(label(config), None))

    def collection(self, config: Config) -> Collection:
        """The collection of a cell, outside any cell's folder."""
        return prepare.collection(Workshop(config, Progress(config.data.name, None)))

    def cell(self, config: Config) -> Cell:
        """The cell of a configuration, whose id depends on what its collection holds."""
        return Cell(config, prepare.contents(Workshop(config, Progress(config.data.name, None))))

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
            groups = prepare.groups(workshop, texts)
            machine = device(replace(config.site, name=self.site))
            assert config.site.devices is not None  # site.settle
            self._trainings[id(config)] = TrainingPlan.of(
                config, describe(workshop, texts), groups, machine, config.site.devices
            )
        return self._trainings[id(config)]

    def plan(self, config: Config) -> CellPlan:
        """One row."""
        training = self.training(config)
        scored = prepare.evaluation_sets(self.workshop(config))
        return CellPlan(training, self._encoding(training, scored))

    def grid(self, configs: list[Config]) -> GridPlan:
        """All rows, and what they share."""
        cells = [self.plan(config) for config in configs]
        return GridPlan(cells, self._shared(cells))

    def _encoding(self, training: TrainingPlan, scored: EvaluationSets) -> Spending:
        """Encoding these collections and their queries, equal texts once."""
        config, evaluation = training.config, training.config.evaluation
        asked: dict[tuple[Path, str, int], NDArray[np.int64]] = {}
        for name, (tested, split) in scored.items():
            for texts, ids, length in zip(
                (tested.queries, tested.documents),
                (tested.asked(split), None),
                evaluation.lengths_of(name),
                strict=True,
            ):
                folder = self._tokens(training, texts, length)
                length_N = tokens.read(folder).lengths(length)
                rows = slice(None) if ids is None else texts.rows(ids)
                asked[folder, key_of(ids), length] = length_N[rows]
        sparse, spent = config.paradigm.name == "sparse", Spending()
        for (folder, ids_key, length), length_N in asked.items():
            key = (training.blueprint.shape, sparse, folder, ids_key, length)
            if key not in self._encodings:
                meter = Meter.of_encoding(training.blueprint.shape, length, sparse=sparse)
                self._encodings[key] = meter.texts(length_N, evaluation.batch_tokens)
            spent += self._encodings[key]
        return spent

    def _tokens(self, training: TrainingPlan, texts: Texts, length: int) -> Path:
        """Token cache of the texts, by the tokenizer that also counted the training texts."""
        source = training.blueprint.tokenizer
        return prepare.tokenised(
            self.workshop(training.config), "tokens", source, texts, length, self.offline
        )

    def _shared(self, cells: list[CellPlan]) -> list[SharedWork]:
        """Stages that several cells read, each once."""
        found: dict[str, list[tuple[CellPlan, Spending]]] = defaultdict(list)
        for cell in cells:
            training, config = cell.training, cell.training.config
            adapted = planned_mntp(training.blueprint.shape, config.recipe, training.devices)
            size = f"{config.model.name} on {config.data.name}"
            found[f"adapt {size}"].append((cell, adapted))
            own = {config.data.name: (self.collection(config), config.data.test_split)}
            untrained = self._encoding(training, own)
            found[f"encode untrained {config.paradigm.name} {size}"].append((cell, untrained))
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
        return encoder.planned(Groups.load(prepare.groups(workshop, texts)))
