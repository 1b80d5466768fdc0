"""A cell from its configuration to its result: adapt, train, encode, search, score.

On a cluster its training and a share of its encoding may be jobs of their own; the cell's job finds
what they have done, and does what they have not.
"""

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lion_sweep import prepare
from lion_sweep.cell import Cell, axes
from lion_sweep.config import plain
from lion_sweep.config_site import SiteName
from lion_sweep.data.collection import Collection
from lion_sweep.evaluating import Tested, keep
from lion_sweep.evaluation.measures import mean
from lion_sweep.evaluation.significance import paired_randomisation
from lion_sweep.pipeline import Pipeline
from lion_sweep.prepare import Workshop
from lion_sweep.scoring import bm25
from lion_sweep.stage import Stage
from lion_sweep.tasks import ENCODING, encoding_job
from lion_sweep.tracking import NoTracker, Tracker, tracker

VERSIONS = ("torch", "transformers", "peft", "numpy", "numba", "bm25s", "ranx", "wordllama")


def train(cell: Cell, site: SiteName, workshop: Workshop, texts: Collection) -> None:
    """A cell up to its trained weights."""
    pipeline = Pipeline(cell.config, site, workshop, texts)
    with _tracker(cell, pipeline) as track:
        _train(pipeline, track)


def encode(cell: Cell, number: int, site: SiteName, workshop: Workshop, texts: Collection) -> None:
    """An encoding job of a trained cell: the passages that no other job is at."""
    pipeline = Pipeline(cell.config, site, workshop, texts)
    adapted, trained = _train(pipeline, NoTracker())
    sets = prepare.evaluation_sets(workshop)

    def work(folder: Path) -> dict[str, Any]:
        evaluator = pipeline.evaluator(trained)
        taken = sum(evaluator.share_passages(collection) for collection, _ in sets.values())
        del evaluator  # its weights, before others are loaded
        own, _ = sets[cell.config.data.name]
        taken += pipeline.evaluator(adapted, "untrained ").share_passages(own)
        return {"shards": taken}

    workshop.run(ENCODING, encoding_job(cell, number), work, together=True)


def _tracker(cell: Cell, pipeline: Pipeline) -> Tracker:
    settings = plain(axes(cell.config)) | {"ladder": cell.config.ladder.name}
    return tracker(cell.config, cell.id, settings) if pipeline.leads else NoTracker()


def _train(pipeline: Pipeline, track: Tracker) -> tuple[Stage, Stage]:
    """The adapted weights and the trained ones."""

    def on_step(done: int, total: int, values: dict[str, float]) -> None:
        pipeline.workshop.progress.step(done, total, values)
        track.log(values, done)

    adapted = pipeline.adapt()
    return adapted, pipeline.train(adapted, on_step)


def run(cell: Cell, site: SiteName, workshop: Workshop, texts: Collection) -> dict[str, Any]:
    """All stages of a cell; writes its runs and per-query values, returns its result."""
    config = cell.config
    pipeline = Pipeline(config, site, workshop, texts)
    with _tracker(cell, pipeline) as track:
        adapted, trained = _train(pipeline, track)
        sets = prepare.evaluation_sets(workshop)
        before = pipeline.evaluator(adapted, "untrained ").on(*sets[config.data.name])
        evaluator = pipeline.evaluator(trained)
        tested = {name: evaluator.on(*chosen) for name, chosen in sets.items()}
        references = {name: bm25(workshop, *chosen) for name, chosen in sets.items()}
        if pipeline.leads:
            keep(cell.folder, tested, references)
        first = next(iter(tested.values()))
        result = {
            "id": cell.id,
            "axes": axes(config),
            "ladder": config.ladder.name,
            "seed": config.seed,
            "data": config.data.name,
            "site": config.site.name.name,
            "precision": pipeline.accelerator.mixed_precision,
            "device": {
                "name": pipeline.device.name,
                "peak_flops": pipeline.device.peak_flops,
                # Those that trained; earlier versions have not written them down.
                "count": trained.facts.get("devices", pipeline.accelerator.num_processes),
                "train_seconds": trained.facts["seconds"],
            },
            "backbone": {
                "name": pipeline.blueprint.name,
                "start": pipeline.blueprint.start,
                "parameters": first.passages.facts["parameters"],
            },
            "teacher": plain(asdict(config.teacher)),
            "scores": {name: mean(found.scores) for name, found in tested.items()},
            "untrained": {config.data.name: mean(before.scores)},
            "gain": {config.data.name: _gain(cell, tested[config.data.name], before)},
            "bm25": {name: mean(scores) for name, scores in references.items()},
            "efficiency": {name: found.efficiency() for name, found in tested.items()},
            "ledger": _ledger(workshop.stages) | {"encode": evaluator.vectors.ledger()},
            "stages": {
                title: {"seconds": done.seconds, "reused": done.reused, "folder": done.folder.name}
                for title, done in workshop.stages.items()
            },
            "collections": {
                name: {
                    "checksum": collection.checksum,
                    "group": config.evaluation.group_of(name),
                    "documents": len(collection.documents),
                    "queries": len(collection.asked(split)),
                }
                for name, (collection, split) in sets.items()
            },
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in VERSIONS},
        }
        track.summary(
            {
                f"{name}/{measure}": value
                for name, found in tested.items()
                for measure, value in mean(found.scores).items()
            }
        )
    return result


def _gain(cell: Cell, trained: Tested, untrained: Tested) -> dict[str, float]:
    """What training changed in the first measure, and how likely chance alone would."""
    evaluation, measure = cell.config.evaluation, next(iter(trained.scores))
    after, before = trained.scores[measure], untrained.scores[measure]
    p = paired_randomisation(after, before, evaluation.permutations, cell.config.seed)
    return {measure: mean(trained.scores)[measure] - mean(untrained.scores)[measure], "p": p}


def _ledger(stages: dict[str, Stage]) -> dict[str, Any]:
    """Planned and spent FLOPs of the stages that are done once per cell or shared."""
    return {
        name: {kind: stages[name].facts[kind] for kind in ("planned", "spent")}
        for name in ("adapt", "train", "teacher")
        if name in stages
    }
