"""A cell from its stages to its result: adapt, train, encode, search, score.

On a cluster its training and a share of its encoding may be jobs of their own; the cell's job finds
what they have done, and does what they have not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lion_sweep.cell.cell import Cell
from lion_sweep.cell.environment import environment, versions
from lion_sweep.cell.names import axes
from lion_sweep.cell.result import FORMAT, Result
from lion_sweep.config.section import plain
from lion_sweep.evaluation.measures import mean
from lion_sweep.evaluation.significance import paired_randomisation
from lion_sweep.machine.tracking import Tracker, tracker
from lion_sweep.stages.encode import ledger
from lion_sweep.stages.engine import Done
from lion_sweep.stages.score import Scores, keep
from lion_sweep.stages.workshop import Workshop


def train(cell: Cell, shop: Workshop) -> None:
    """A cell up to its trained weights."""
    with _tracked(cell, shop):
        shop.run(cell.stages.train)


@contextmanager
def _tracked(cell: Cell, shop: Workshop) -> Iterator[Tracker]:
    """The tracker, which hears of every step while the context lasts."""
    settings = plain(axes(cell.config)) | {"ladder": cell.config.ladder.name}
    track = tracker(cell.config, cell.id, settings) if shop.execution.leads else Tracker()

    def on_step(done: int, total: int, values: dict[str, float]) -> None:
        shop.progress.step(done, total, values)
        track.log(values, done)

    before, shop.on_step = shop.on_step, on_step
    try:
        with track:
            yield track
    finally:
        shop.on_step = before


def run(cell: Cell, shop: Workshop) -> Result:
    """All stages of a cell; writes its runs and per-query values, returns its result."""
    stages, own = cell.stages, cell.config.data.name
    with _tracked(cell, shop) as track:
        adapted, trained = shop.run(stages.adapt), shop.run(stages.train)
        before = stages.untrained.run(shop)
        scores = {name: scored.run(shop) for name, scored in stages.trained.items()}
        references = {name: score.scores(shop) for name, score in stages.bm25.items()}
        if shop.execution.leads:
            keep(shop, cell.folder, stages.trained, stages.bm25)
        result = Result(
            format=FORMAT,
            id=cell.id,
            axes=axes(cell.config),
            config=plain(cell.config),
            ladder=cell.config.ladder.name,
            seed=cell.config.seed,
            data=own,
            site=shop.execution.site.name,
            precision=cell.config.recipe.precision.name,
            device={
                "name": shop.execution.device.name,
                "peak_flops": shop.execution.device.peak_flops,
                "count": trained.facts["devices"],  # those that trained
                "train_seconds": trained.facts["seconds"],
            },
            backbone={
                "name": stages.blueprint.name,
                "start": stages.blueprint.start,
                "parameters": shop.run(stages.trained[own].passages).facts["parameters"],
            },
            teacher=plain(cell.config.teacher) if stages.teacher else None,
            scores={name: mean(values) for name, values in scores.items()},
            untrained={own: mean(before)},
            gain={own: _gain(cell, scores[own], before)},
            bm25={name: mean(values) for name, values in references.items()},
            efficiency={name: found.efficiency(shop) for name, found in stages.trained.items()},
            ledger=_ledger(cell, shop, adapted, trained),
            stages=_stages(cell, shop),
            collections={
                name: {
                    "checksum": collection.checksum,
                    "group": cell.config.evaluation.own(name).group,
                    "documents": len(collection.documents),
                    "queries": len(collection.asked(split)),
                }
                for name, (collection, split) in stages.sets.items()
            },
            versions=versions(),
            environment=environment(),
        )
        track.summary(
            {
                f"{name}/{measure}": value
                for name, means in result["scores"].items()
                for measure, value in means.items()
            }
        )
    return result


def _gain(cell: Cell, after: Scores, before: Scores) -> dict[str, float | None]:
    """What training changed in the first measure, and how likely chance alone would."""
    measure, config = next(iter(after)), cell.config
    p = paired_randomisation(
        after[measure], before[measure], config.evaluation.permutations, config.seed
    )
    return {measure: mean(after)[measure] - mean(before)[measure], "p": p}


def _ledger(cell: Cell, shop: Workshop, adapted: Done, trained: Done) -> dict[str, dict[str, Any]]:
    """Planned and spent FLOPs of the stages that are done once per cell or shared."""
    done = {"adapt": adapted, "train": trained}
    if cell.stages.teacher:
        done["teacher"] = shop.run(cell.stages.teacher)
    found = {
        name: {kind: one.facts[kind] for kind in ("planned", "spent")} for name, one in done.items()
    }
    encoded = [e for s in cell.stages.trained.values() for e in (s.passages, s.queries)]
    return found | {"encode": ledger(shop, encoded)}


def _stages(cell: Cell, shop: Workshop) -> dict[str, dict[str, Any]]:
    """Folder, seconds and whether it was there before; null where a folder is gone since."""
    found = {}
    for title, stage in cell.stages.roles.items():
        done = shop.find(stage)
        found[title] = {
            "folder": stage.name,
            "seconds": done.seconds if done else None,
            "reused": done.reused if done else None,
        }
    return found
