"""A cell's stages up to its trained weights, each skipped where its result is on disk already."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from hydra.utils import instantiate
from torch.distributed.device_mesh import init_device_mesh

from lion_sweep import prepare
from lion_sweep.blueprint import blueprint
from lion_sweep.cell import training_specification
from lion_sweep.config import Config, plain
from lion_sweep.config_site import SiteName
from lion_sweep.data import tokens
from lion_sweep.data.collection import Collection
from lion_sweep.devices import device, enough_memory, halved
from lion_sweep.evaluating import Evaluator
from lion_sweep.meter import Spending
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.compiled import compiled
from lion_sweep.plan.training import TrainingPlan, sampler
from lion_sweep.prepare import Workshop
from lion_sweep.progress import duration
from lion_sweep.site import precision
from lion_sweep.stage import Stage, write_json
from lion_sweep.training import adapt, loop
from lion_sweep.training.sharding import shard

WEIGHTS = "weights"
MEANT_FOR = "lion_sweep.json"  # beside the weights: what vectors they make


class Pipeline:
    """The stages of one cell."""

    def __init__(
        self, config: Config, site: SiteName, workshop: Workshop, texts: Collection
    ) -> None:
        self.config, self.workshop, self.texts = config, workshop, texts
        self.accelerator = Accelerator(
            cpu=site is SiteName.laptop,
            mixed_precision=precision(self.config.recipe.precision, site),
        )
        self.device = device(replace(self.config.site, name=site))
        self.blueprint = blueprint(workshop, texts)
        self.source = self.blueprint.source
        self.queries = tokens.read(self.blueprint.queries)
        self.passages = tokens.read(self.blueprint.passages)

    @property
    def leads(self) -> bool:
        """Whether this rank writes what only one may write."""
        return bool(self.accelerator.is_main_process)

    @property
    def is_sparse(self) -> bool:
        """Whether vectors are over the vocabulary."""
        return self.config.paradigm.name == "sparse"

    def load(self, weights: Path | None, *, sharded: bool = False) -> Backbone:
        """The backbone as a finished stage left it (None: as it came), on this cell's device.

        `sharded`: its frozen layers over the devices of all ranks, for training alone.
        """
        # FSDP2's hooks and modules hold each other; the weights of the last stage have to go first.
        gc.collect()
        lora = self.config.recipe.lora
        source = self.source if weights is None or lora else weights / WEIGHTS
        # Frozen weights need no more precision than the products they are used in.
        frozen = lora is not None and self.accelerator.mixed_precision == "bf16"
        backbone = Backbone.load(source, torch.bfloat16 if frozen else torch.float32)
        for texts in (self.queries, self.passages):
            texts.check_within(len(backbone.head_VD), self.source)
        if lora and weights is not None:
            backbone = backbone.with_adapter(weights / WEIGHTS)
        elif lora:
            backbone = backbone.with_lora(lora, self.config.seed)
        if sharded:  # before the rest moves: the whole may not fit
            ranks = (self.accelerator.num_processes,)
            shard(backbone, init_device_mesh(self.accelerator.device.type, ranks))
        backbone.to(self.accelerator.device)
        return backbone

    @contextmanager
    def compiled(self, work: str, backbone: Backbone) -> Iterator[dict[str, Any]]:
        """Layers compiled while the context lasts, where the site asks for it.

        Gives the facts of it, which are complete at the end: none, or graphs and seconds.
        """
        facts: dict[str, Any] = {}
        if not self.config.site.compile:
            yield facts
            return
        with compiled(backbone) as taken:
            yield facts
        facts["compile"] = asdict(taken)
        self.workshop.progress.say(
            f"{work}: compiled {taken.graphs} graphs in {duration(taken.seconds)}"
        )

    def _save(self, backbone: Backbone, folder: Path) -> None:
        if self.leads:
            backbone.save(folder / WEIGHTS)
            (folder / "checkpoint.pt").unlink(missing_ok=True)

    def adapt(self) -> Stage:
        """MNTP; the six cells of a size share it."""

        def work(folder: Path) -> dict[str, Any]:
            training = self.training_plan()
            fitting = training.counts.tokens
            recipe = replace(self.config.recipe, micro_batch_tokens=fitting)
            backbone = self.load(None, sharded=training.sharded)
            tokens = "recipe.micro_batch_tokens", fitting, recipe.adapt.chunk
            with (
                enough_memory("adapt", lambda: halved(*tokens)),
                self.compiled("adapt", backbone) as compiling,
            ):
                facts = adapt.adapt(
                    backbone,
                    self.passages.ids_T,
                    prepare.tokenizer_of(self.source),
                    recipe,
                    self.config.seed,
                    self.accelerator,
                    folder,
                    self.workshop.progress.step,
                    self.workshop.progress.kept,
                )
            self._save(backbone, folder)
            return facts | compiling

        return self.workshop.run(
            "adapt",
            self.blueprint.adapting(self.config),
            work,
            together=True,
        )

    def train(self, adapted: Stage, on_step: Callable[[int, int, dict[str, float]], None]) -> Stage:
        """The cell's own training."""
        config = self.config
        groups = prepare.taught_groups(self.workshop, self.texts)

        def work(folder: Path) -> dict[str, Any]:
            training, kept = self.training_plan(), self.workshop.progress.kept
            backbone = self.load(adapted.folder, sharded=training.sharded)
            encoder = self.encoder(backbone)
            plan = training.spending
            data = self.training_data(groups, plan)
            with (
                enough_memory("train", training.lighter),
                self.compiled("train", backbone) as compiling,
            ):
                facts = loop.train(encoder, data, config, self.accelerator, folder, on_step, kept)
            self._save(backbone, folder)
            if self.leads:
                write_json(folder / WEIGHTS / MEANT_FOR, self._meant_for())
            devices = self.accelerator.num_processes
            return {"planned": plan.as_dict(), "devices": devices, **facts, **compiling}

        return self.workshop.run(
            "train",
            training_specification(config, adapted.folder.name, self.texts.checksum),
            work,
            together=True,
        )

    def _meant_for(self) -> dict[str, Any]:
        """What the weights alone do not tell whoever finds them."""
        return {
            "paradigm": self.config.paradigm.name,
            "encoder": plain(self.config.paradigm.encoder),
            "base": self.blueprint.key,
            "query_length": self.config.evaluation.query_length,
            "passage_length": self.config.evaluation.passage_length,
        }

    def training_plan(self) -> TrainingPlan:
        """What training takes on the devices at hand."""
        mined = prepare.groups(self.workshop, self.texts)
        ranks = self.accelerator.num_processes
        return TrainingPlan.of(self.config, self.blueprint, mined, self.device, ranks)

    def training_data(self, groups: Path, plan: Spending) -> loop.TrainingData:
        """What `plan` steps read of a file of groups."""
        training = self.training_plan()
        return loop.TrainingData(
            sampler(self.config, groups),
            self.queries,
            self.passages,
            training.meter,
            plan,
            training.counts.tokens,
            training.caches,
        )

    def encoder(self, backbone: Backbone) -> loop.Encoder:
        """The cell's way from hidden states to vectors, around `backbone`."""
        encoder: loop.Encoder = instantiate(self.config.paradigm.encoder, backbone=backbone)
        return encoder

    def evaluator(self, weights: Stage, title: str = "") -> Evaluator:
        """What scores a finished stage's weights."""
        identity = {
            "weights": weights.folder.name,
            "encoder": plain(self.config.paradigm.encoder),
        }
        return Evaluator(
            self.workshop,
            self.accelerator,
            self.source,
            lambda: self.encoder(self.load(weights.folder).merged()),
            identity,
            is_sparse=self.is_sparse,
            title=title,
        )
