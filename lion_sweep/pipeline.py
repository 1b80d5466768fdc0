"""A cell from its configuration to its result: adapt, train, encode, search, score."""

import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from hydra.utils import instantiate

from lion_sweep import prepare
from lion_sweep.blueprint import blueprint
from lion_sweep.cell import Cell, axes, plain, specification
from lion_sweep.config import Config, SparseEngine
from lion_sweep.config_site import SiteName
from lion_sweep.data import tokens
from lion_sweep.data.collection import Collection
from lion_sweep.devices import device
from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.evaluation.significance import paired_randomisation
from lion_sweep.ledger import DecoderShape
from lion_sweep.meter import Meter, Spending
from lion_sweep.models.backbone import Backbone
from lion_sweep.plan.training import TrainingPlan, sampler
from lion_sweep.prepare import Workshop
from lion_sweep.retrieval import encoding
from lion_sweep.retrieval.bm25 import BM25Index
from lion_sweep.retrieval.dense import DenseIndex
from lion_sweep.retrieval.lucene import LuceneImpactIndex
from lion_sweep.retrieval.runs import Run, drop_self_hits, write_trec
from lion_sweep.retrieval.sparse import SparseIndex
from lion_sweep.site import precision
from lion_sweep.stage import Stage, write_json
from lion_sweep.tracking import NoTracker, tracker
from lion_sweep.training import adapt, loop

Scores = dict[str, dict[str, float]]
VERSIONS = ("torch", "transformers", "peft", "numpy", "numba", "bm25s", "ranx", "wordllama")
WEIGHTS = "weights"


class Pipeline:
    """The stages of one cell, each skipped where its result is on disk already."""

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
        self.source, self.token_folder = self.blueprint.source, self.blueprint.tokens
        self.queries = tokens.read(self.token_folder, "queries")
        self.passages = tokens.read(self.token_folder, "passages")

    @property
    def leads(self) -> bool:
        """Whether this rank writes what only one may write."""
        return bool(self.accelerator.is_main_process)

    @property
    def is_sparse(self) -> bool:
        """Whether vectors are over the vocabulary."""
        return self.config.paradigm.name == "sparse"

    def load(self, weights: Path | None) -> Backbone:
        """The backbone as a finished stage left it (None: as it came), on this cell's device."""
        lora = self.config.recipe.lora
        source = self.source if weights is None or lora else weights / WEIGHTS
        # Frozen weights need no more precision than the products they are used in.
        frozen = lora is not None and self.accelerator.mixed_precision == "bf16"
        backbone = Backbone.load(source, torch.bfloat16 if frozen else torch.float32)
        if lora and weights is not None:
            backbone = backbone.with_adapter(weights / WEIGHTS)
        elif lora:
            backbone = backbone.with_lora(lora)
        backbone.to(self.accelerator.device)
        return backbone

    def _save(self, backbone: Backbone, folder: Path) -> None:
        if self.leads:
            backbone.save(folder / WEIGHTS)
            (folder / "checkpoint.pt").unlink(missing_ok=True)

    def adapt(self) -> Stage:
        """MNTP; the six cells of a size share it."""
        recipe = self.config.recipe

        def work(folder: Path) -> dict[str, Any]:
            backbone = self.load(None)
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
            return facts

        return self.workshop.run(
            "adapt",
            self.blueprint.adapting(self.config),
            work,
            together=True,
        )

    def train(self, adapted: Stage, on_step: Callable[[int, int, dict[str, float]], None]) -> Stage:
        """The cell's own training."""
        config, specified = self.config, specification(self.config)
        groups = prepare.taught_groups(self.workshop, self.texts)

        def work(folder: Path) -> dict[str, Any]:
            encoder = self.encoder(self.load(adapted.folder))
            plan = self.training_plan().spending
            data = self.training_data(groups, plan)
            kept = self.workshop.progress.kept
            facts = loop.train(encoder, data, config, self.accelerator, folder, on_step, kept)
            self._save(encoder.backbone, folder)
            return {"planned": plan.as_dict(), **facts}

        return self.workshop.run(
            "train",
            {
                "adapt": adapted.folder.name,
                "paradigm": plain(asdict(config.paradigm)),
                "loss": plain(asdict(config.loss)),
                "recipe": {
                    name: value
                    for name, value in specified["recipe"].items()
                    if not name.startswith("evaluation")
                },
                "budget": specified["budget"],
                "teacher": plain(asdict(config.teacher)),
                "split": config.data.train_split,
                "collection": self.texts.checksum,
                "seed": config.seed,
            },
            work,
            together=True,
        )

    def training_plan(self) -> TrainingPlan:
        """What training takes on the devices at hand."""
        mined = prepare.mined_groups(self.workshop, self.texts)
        ranks = self.accelerator.num_processes
        return TrainingPlan.of(self.config, self.blueprint, mined, self.device, ranks)

    def training_data(self, groups: Path, plan: Spending) -> loop.TrainingData:
        """What `plan` steps read of a file of groups."""
        meter = self.training_plan().meter
        return loop.TrainingData(
            sampler(self.config, groups), self.queries, self.passages, meter, plan
        )

    def encoder(self, backbone: Backbone) -> loop.Encoder:
        """The cell's way from hidden states to vectors, around `backbone`."""
        encoder: loop.Encoder = instantiate(self.config.paradigm.encoder, backbone=backbone)
        return encoder

    def encode(self, weights: Stage, shown: str) -> Stage:
        """Vectors of the whole corpus and of the test queries."""
        evaluation = self.config.evaluation

        def work(folder: Path) -> dict[str, Any]:
            encoder = self.encoder(self.load(weights.folder).merged())
            longest = max(evaluation.passage_length, evaluation.query_length)
            shape = DecoderShape.of(encoder.backbone.language_model.config)
            meter = Meter.of_encoding(shape, longest, sparse=self.is_sparse)
            planned, spent = Spending(), Spending()
            facts: dict[str, Any] = {}
            for name, texts, length in (
                ("passages", self.passages, evaluation.passage_length),
                ("queries", self.queries.subset(self.test_rows), evaluation.query_length),
            ):
                vectors, cost = encoding.encode(
                    encoder,
                    texts,
                    length,
                    evaluation.batch_tokens,
                    is_sparse=self.is_sparse,
                    meter=meter,
                    accelerator=self.accelerator,
                    on_batch=self.workshop.progress.step,
                )
                spent += cost
                planned += meter.texts(texts.lengths(length), evaluation.batch_tokens)
                if self.leads:
                    encoding.save(folder / name, vectors)
                if self.is_sparse:
                    facts[f"L0_{name}"] = vectors.nnz / vectors.shape[0]
            facts["parameters"] = sum(p.numel() for p in encoder.backbone.parameters())
            return {"planned": planned.as_dict(), "spent": spent.as_dict(), **facts}

        return self.workshop.run(
            "encode",
            {
                "weights": weights.folder.name,
                "encoder": plain(self.config.paradigm.encoder),
                "collection": self.texts.checksum,
                "split": self.config.data.test_split,
                "lengths": [evaluation.query_length, evaluation.passage_length],
                "batch_tokens": evaluation.batch_tokens,
            },
            work,
            shown,
            together=True,
        )

    @property
    def test_queries(self) -> list[str]:
        """Ids of the queries that are scored."""
        return list(self.texts.qrels[self.config.data.test_split])

    @property
    def test_rows(self) -> list[int]:
        """Their rows in the token cache."""
        row = {identifier: number for number, identifier in enumerate(self.texts.queries)}
        return [row[identifier] for identifier in self.test_queries]

    def search(self, encoded: Stage, shown: str) -> Stage:
        """Exact search; writes the run as arrays and as a TREC file."""
        evaluation = self.config.evaluation

        def work(folder: Path) -> dict[str, Any]:
            documents = list(self.texts.documents)
            vectors = encoding.load(encoded.folder / "passages")
            index: DenseIndex | SparseIndex | LuceneImpactIndex
            if not self.is_sparse:
                index = DenseIndex(documents, vectors)
            elif evaluation.sparse_engine is SparseEngine.lucene:
                index = LuceneImpactIndex(documents, vectors, folder / "lucene")
            else:
                index = SparseIndex(documents, vectors)
            queries = encoding.load(encoded.folder / "queries")
            run = index.search(self.test_queries, queries, evaluation.depth)
            write_run(run, folder, f"lion_sweep-{encoded.key}")
            return index.stats()

        return self.workshop.run(
            "search",
            {
                "encode": encoded.folder.name,
                "depth": evaluation.depth,
                "engine": evaluation.sparse_engine.name if self.is_sparse else "flat",
                "run": "arrays",
            },
            work,
            shown,
        )


def write_run(run: Run, folder: Path, tag: str) -> None:
    """run.npz, which `score` reads, and run.trec, without hits of a query on itself."""
    run = drop_self_hits(run)
    run.save(folder / "run.npz")
    write_trec(run, folder / "run.trec", tag)


def search_bm25(workshop: Workshop, texts: Collection) -> Stage:
    """The reference row: BM25 over the same texts."""
    data, depth = workshop.config.data, workshop.config.evaluation.depth
    queries = list(texts.qrels[data.test_split])

    def work(folder: Path) -> dict[str, Any]:
        index = BM25Index(list(texts.documents), list(texts.documents.values()))
        run = index.search(queries, [texts.queries[query] for query in queries], depth)
        write_run(run, folder, "bm25")
        return {}

    specification = {
        "bm25": texts.checksum,
        "split": data.test_split,
        "depth": depth,
        "run": "arrays",
    }
    return workshop.run("search", specification, work, "search bm25")


def score(workshop: Workshop, texts: Collection, searched: Stage, shown: str) -> Scores:
    """Per-query values of every measure."""
    config = workshop.config
    measures = list(config.evaluation.measures)

    def work(folder: Path) -> dict[str, Any]:
        qrels = texts.qrels[config.data.test_split]
        scores = evaluate(Run.load(searched.folder / "run.npz"), qrels, measures)
        write_json(folder / "per_query.json", scores)
        return mean(scores)

    done = workshop.run(
        "score", {"search": searched.folder.name, "measures": measures}, work, shown
    )
    scores: Scores = json.loads((done.folder / "per_query.json").read_text(encoding="utf-8"))
    return scores


def run(cell: Cell, site: SiteName, workshop: Workshop, texts: Collection) -> dict[str, Any]:
    """All stages of a cell; writes its runs and per-query values, returns its result."""
    config = cell.config
    pipeline = Pipeline(config, site, workshop, texts)
    settings = plain(axes(config)) | {"ladder": config.ladder.name}
    with tracker(config, cell.id, settings) if pipeline.leads else NoTracker() as track:

        def on_step(done: int, total: int, values: dict[str, float]) -> None:
            workshop.progress.step(done, total, values)
            track.log(values, done)

        adapted = pipeline.adapt()
        trained = pipeline.train(adapted, on_step)
        before = pipeline.search(pipeline.encode(adapted, "encode untrained"), "search untrained")
        encoded = pipeline.encode(trained, "encode")
        searched = pipeline.search(encoded, "search")
        name = config.data.name
        scores = score(workshop, texts, searched, "score")
        untrained = score(workshop, texts, before, "score untrained")
        reference = score(workshop, texts, search_bm25(workshop, texts), "score bm25")
        if pipeline.leads:
            (cell.folder / "runs").mkdir(exist_ok=True)
            (cell.folder / "per_query").mkdir(exist_ok=True)
            shutil.copyfile(searched.folder / "run.trec", cell.folder / "runs" / f"{name}.trec")
            write_json(cell.folder / "per_query" / f"{name}.json", scores)
        means, first, stages = mean(scores), config.evaluation.measures[0], workshop.stages
        result = {
            "id": cell.id,
            "axes": axes(config),
            "ladder": config.ladder.name,
            "seed": config.seed,
            "data": name,
            "site": config.site.name.name,
            "precision": pipeline.accelerator.mixed_precision,
            "device": {
                "name": pipeline.device.name,
                "peak_flops": pipeline.device.peak_flops,
                "count": pipeline.accelerator.num_processes,
                "train_seconds": trained.facts["seconds"],
            },
            "backbone": {
                "name": pipeline.blueprint.name,
                "start": pipeline.blueprint.start,
                "parameters": encoded.facts["parameters"],
            },
            "teacher": plain(asdict(config.teacher)),
            "scores": {name: means},
            "untrained": {name: mean(untrained)},
            "gain": {
                name: {
                    first: means[first] - mean(untrained)[first],
                    "p": paired_randomisation(
                        scores[first],
                        untrained[first],
                        config.evaluation.permutations,
                        config.seed,
                    ),
                }
            },
            "bm25": {name: mean(reference)},
            "sparsity": {
                name: {
                    "L0_documents": encoded.facts["L0_passages"],
                    "L0_queries": encoded.facts["L0_queries"],
                }
            }
            if pipeline.is_sparse
            else {},
            "ledger": {
                name: {kind: stages[name].facts[kind] for kind in ("planned", "spent")}
                for name in ("adapt", "train", "encode", "teacher")
                if name in stages
            },
            "stages": {
                title: {"seconds": done.seconds, "reused": done.reused, "folder": done.folder.name}
                for title, done in stages.items()
            },
            "versions": {"python": platform.python_version(), "collection": texts.checksum}
            | {package: version(package) for package in VERSIONS},
        }
        track.summary({f"{name}/{measure}": value for measure, value in means.items()})
    return result
