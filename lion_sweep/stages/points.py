"""Which queries the evaluations of a training ask, known before it begins."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lion_sweep.config import Config
from lion_sweep.data.places import Hub
from lion_sweep.errors import UserError
from lion_sweep.machine.tracked import once
from lion_sweep.stages.texts import Cut, File, ImportJudgements, ImportTexts, Source
from lion_sweep.stages.workshop import Workshop

if TYPE_CHECKING:
    from lion_sweep.training.points import Points

QUERIES = 64
DEV = "dev"
SEED = 0  # of the choice, the same for every cell


@dataclass(frozen=True)
class Asked:
    """A part of a split, without what cells are scored on."""

    count: int  # evaluations
    split: str
    trained_on: bool  # whether these are training's own queries
    judged: ImportJudgements
    tested: ImportJudgements
    queries: Cut

    def read(self, shop: Workshop) -> "Points | None":
        """The same to every cell on the collection; None where there is no query, which is said."""
        # Here, as building stages need not wait for torch.
        from lion_sweep.training.points import Points

        judged, tested = self.judged.read(shop), set(self.tested.read(shop).asked)
        free = [
            row
            for row, query in zip(judged.asked_rows, judged.asked, strict=True)
            if self.trained_on or query not in tested
        ]
        chosen = np.random.default_rng(SEED).permutation(np.array(free, np.int64))[:QUERIES]
        documents = len(self.judged.documents.read(shop))
        say = shop.progress.say if shop.team.leads else lambda _: None
        try:
            points = Points.of(
                self.count, judged.of_queries(chosen), self.queries.read(shop), documents
            )
        except ValueError as error:
            say(f"no evaluation while training: {error} in the split {self.split}")
            return None
        if self.trained_on:
            once(
                say,
                f"evaluated while training on {len(points.query_Q)} of its own queries (split "
                f"{self.split}), which are not held out; tracking.split=NAME takes another split",
            )
        return points

    @property
    def told(self) -> dict[str, Any]:
        """For a result."""
        return {"split": self.split, "trained_on": self.trained_on}


def asked_of(
    config: Config, shop: Workshop, own: Source, cut: Callable[[ImportTexts], Cut]
) -> Asked | None:
    """As `tracking` says; `cut` gives the tokens of queries.

    Without `tracking.split` it is dev, where a folder or an archive has it, else the training
    split. Raises `UserError` for a split that is not there, or that is scored.
    """
    chosen, data = config.tracking, config.data
    if not chosen.points:
        return None
    tested, split, where = own.judged[data.test_split], chosen.split, own.documents.files[0].place
    if split == data.test_split:
        raise UserError(
            f"tracking.split={split} is the split that cells are scored on, which nothing else may "
            "look at: name another one, or null."
        )
    # A repository says what it has only when it is read.
    if split is None and data.test_split != DEV and not isinstance(where, Hub):
        with suppress(UserError):
            where.identity(data.qrels.format(split=DEV), shop.digests)
            split = DEV
    if split in (None, data.train_split):
        judged = own.judged[data.train_split]
        return Asked(chosen.points, data.train_split, True, judged, tested, cut(own.queries))
    queries = ImportTexts(
        (File.of(shop, where, data.queries.format(split=split)),),
        title=f"queries {own.name} {split}",
    )
    queries = own.queries if queries == own.queries else queries
    judged = ImportJudgements(
        File.of(shop, where, data.qrels.format(split=split)),
        split,
        own.documents,
        queries,
        title=f"judgements {own.name} {split}",
    )
    return Asked(chosen.points, split, False, judged, tested, cut(queries))
