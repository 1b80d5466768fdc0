"""Training groups: mined by BM25, or given with the data, and scored by a teacher."""

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_class

from lion_sweep.config import Config
from lion_sweep.cost.meter import Spending
from lion_sweep.data import given
from lion_sweep.data.collection import Flaws, said
from lion_sweep.data.groups import MISSING, Groups, join
from lion_sweep.data.places import place
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, write_json
from lion_sweep.machine import interruption
from lion_sweep.search import mining
from lion_sweep.search.bm25 import BM25Index
from lion_sweep.stages.base import Stage
from lion_sweep.stages.index import BM25, IndexWords
from lion_sweep.stages.scorers import Scorer
from lion_sweep.stages.texts import File, ImportJudgements, ImportTexts, Source
from lion_sweep.stages.workshop import Workshop

GROUPS, FLAWS = "groups", "flaws.json"


@dataclass(frozen=True, eq=False)
class Mine(Stage):
    """BM25's first hits that are not relevant, and BM25's scores."""

    kind = "negatives"
    RULES = 2

    judged: ImportJudgements
    depth: int

    index: IndexWords

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Batch by batch of queries; goes on after those that are there."""
        judged, queries = self.judged.read(shop), self.judged.queries.read(shop)
        index, parts = self.index.read(shop), folder / "parts"
        assert isinstance(index, BM25Index)
        parts.mkdir(exist_ok=True)
        done, total = len(list(parts.glob("[0-9]*"))), mining.count(judged)
        for groups, left_out in mining.batches(index, queries, judged, self.depth, done):
            groups.save(parts / ".begun")
            write_json(parts / ".begun" / FLAWS, left_out)
            (parts / ".begun").rename(parts / f"{done:06}")
            done += 1
            shop.progress.kept_step(done, total)
            if interruption.requested():
                raise interruption.stop()
        found, flaws = sorted(parts.glob("[0-9]*")), Counter[str]()
        for part in found:
            flaws.update(read_json(part / FLAWS))
        join(found, folder / GROUPS)
        pairs = len(Groups.load(folder / GROUPS))
        if not pairs:
            raise UserError(
                f"No query of the split {self.judged.split!r} has a BM25 hit besides its "
                "positives, so there is nothing to train against: the collection is too small, or "
                "its texts share no words."
            )
        shutil.rmtree(parts)
        return _told(shop, pairs, dict(flaws))

    @property
    def listed_in(self) -> File:
        """The file with a line for each pair."""
        return self.judged.file


@dataclass(frozen=True, eq=False)
class Given(Stage):
    """Groups out of a file, with or without scores."""

    kind = "negatives"
    RULES = 2

    file: File
    documents: ImportTexts
    queries: ImportTexts
    depth: int

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        collection = Source("", self.documents, self.queries, {}).read(shop)
        lines = self.file.place.lines(self.file.name)
        groups, flaws = given.read(lines, collection, self.depth)
        groups.save(folder / GROUPS)
        return _told(shop, len(groups), flaws)

    @property
    def listed_in(self) -> File:
        """The file with a line for each group."""
        return self.file


def _told(shop: Workshop, pairs: int, flaws: Flaws) -> dict[str, Any]:
    if words := said(flaws):
        shop.progress.say(f"{pairs:,} training groups; {words}")
    return {"pairs": pairs} | flaws


def groups_of(config: Config, shop: Workshop, pairs: Source) -> Mine | Given:
    data, depth = config.data, config.recipe.negative_depth
    if data.groups:
        assert data.path is not None
        file = File.of(shop, place(data.path), data.groups)
        return Given(file, pairs.documents, pairs.queries, depth)
    index = IndexWords(pairs.documents, BM25, title=f"index {pairs.name}")
    return Mine(pairs.judged[data.train_split], depth, index)


@dataclass(frozen=True)
class Weighted:
    """A scorer, the class that it is of with its `RULES`, and its share of the sum."""

    scorer: Scorer
    target: str
    rules: int
    weight: float


@dataclass(frozen=True, eq=False)
class Teach(Stage):
    """The groups with the weighted sum of some scorers as their scores."""

    kind = "teacher"

    groups: Mine | Given
    scorers: tuple[Weighted, ...]

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """How often a negative is scored above its positive, and what the scores cost."""
        mined = Groups.load(shop.folder(self.groups) / GROUPS)
        positive_P = np.zeros_like(mined.positive_score_P)
        negative_PM = np.zeros_like(mined.negative_score_PM)
        spent = Spending()
        for one in self.scorers:
            scores, cost = one.scorer.scores(mined, shop)
            positive_P += one.weight * scores[0]
            negative_PM += one.weight * scores[1]
            spent += cost
        taught = replace(mined, positive_score_P=positive_P, negative_score_PM=negative_PM)
        taught.save(folder / GROUPS)
        inverted = negative_PM > positive_P[:, None]
        return {
            "inverted_margins": float(inverted[mined.negative_PM != MISSING].mean()),
            "planned": self.planned(shop).as_dict(),
            "spent": spent.as_dict(),
        }

    def planned(self, shop: Workshop) -> Spending:
        mined = Groups.load(shop.folder(self.groups) / GROUPS)
        return sum((one.scorer.planned(mined, shop) for one in self.scorers), Spending())


def teacher_of(config: Config, shop: Workshop, pairs: Source, groups: Mine | Given) -> Teach:
    """A cell's teacher on its training groups; what has no weight is left out."""
    scorers = []
    for name, told in config.teacher.scorers.items():
        settings = {key: value for key, value in told.items() if key not in ("_target_", "weight")}
        if told["weight"]:
            made: type[Scorer] = get_class(told["_target_"])
            scorer = made.of(name, pairs, shop, **settings)
            scorers.append(Weighted(scorer, told["_target_"], made.RULES, told["weight"]))
    return Teach(groups, tuple(scorers))
