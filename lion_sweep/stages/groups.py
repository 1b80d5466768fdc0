"""Training groups: mined by BM25, or given with the data, and scored by a teacher."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_class

from lion_sweep.config import Config
from lion_sweep.cost.meter import Spending
from lion_sweep.data import given
from lion_sweep.data.collection import Collection, Flaws, Judgements, said
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.data.places import place
from lion_sweep.data.texts import Texts
from lion_sweep.search.mining import mine
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.scorers import Scorer
from lion_sweep.stages.texts import File
from lion_sweep.stages.workshop import Workshop

GROUPS = "groups.npz"


@dataclass(frozen=True, eq=False)
class Mine(Stage):
    """BM25's first hits that are not relevant, and BM25's scores."""

    kind = "negatives"
    RULES = 2

    documents: Texts
    queries: Texts
    judged: Judgements
    depth: int
    split: str = beside()  # as messages name it

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        collection = Collection("", self.documents, self.queries, {self.split: self.judged.qrels})
        found = mine(collection, self.split, self.depth, folder / "bm25")
        shutil.rmtree(folder / "bm25")
        return _kept(shop, folder, *found)


@dataclass(frozen=True, eq=False)
class Given(Stage):
    """Groups out of a file, with or without scores."""

    kind = "negatives"
    RULES = 2

    file: File
    documents: Texts
    queries: Texts
    depth: int

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        collection = Collection("", self.documents, self.queries, {})
        lines = self.file.place.lines(self.file.name)
        return _kept(shop, folder, *given.read(lines, collection, self.depth))


def _kept(shop: Workshop, folder: Path, groups: Groups, flaws: Flaws) -> dict[str, Any]:
    groups.save(folder / GROUPS)
    if words := said(flaws):
        shop.progress.say(f"{len(groups):,} training groups; {words}")
    return {"pairs": len(groups)} | flaws


def groups_of(config: Config, shop: Workshop, pairs: Collection) -> Mine | Given:
    data, depth = config.data, config.recipe.negative_depth
    if data.groups:
        assert data.path is not None
        file = File.of(shop, place(data.path), data.groups)
        return Given(file, pairs.documents, pairs.queries, depth)
    judged = pairs.judgements(data.train_split)
    return Mine(pairs.documents, pairs.queries, judged, depth, split=data.train_split)


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


def teacher_of(config: Config, shop: Workshop, pairs: Collection, groups: Mine | Given) -> Teach:
    """A cell's teacher on its training groups; what has no weight is left out."""
    scorers = []
    for name, told in config.teacher.scorers.items():
        settings = {key: value for key, value in told.items() if key not in ("_target_", "weight")}
        if told["weight"]:
            made: type[Scorer] = get_class(told["_target_"])
            scorer = made.of(name, pairs, shop, **settings)
            scorers.append(Weighted(scorer, told["_target_"], made.RULES, told["weight"]))
    return Teach(groups, tuple(scorers))
