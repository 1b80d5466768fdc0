"""Training groups before a teacher scores them: mined by BM25, or given with the data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.config import Config
from lion_sweep.data import given
from lion_sweep.data.collection import Collection, Judgements
from lion_sweep.data.places import place
from lion_sweep.data.texts import Texts
from lion_sweep.search.mining import mine
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.texts import File
from lion_sweep.stages.workshop import Workshop

GROUPS = "groups.npz"


@dataclass(frozen=True, eq=False)
class Mine(Stage):
    """BM25's first hits that are not relevant, and BM25's scores."""

    kind = "negatives"

    documents: Texts
    queries: Texts
    judged: Judgements
    depth: int
    split: str = beside()  # as messages name it
    title: str = beside("negatives")

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Pairs, and how many have no negative."""
        collection = Collection("", self.documents, self.queries, {self.split: self.judged.qrels})
        mined = mine(collection, self.split, self.depth)
        mined.save(folder / GROUPS)
        grades = [grade for of_query in self.judged.qrels.values() for grade in of_query.values()]
        positives = sum(grade > 0 for grade in grades)
        return {"pairs": len(mined), "pairs_without_negatives": positives - len(mined)}


@dataclass(frozen=True, eq=False)
class Given(Stage):
    """Groups out of a file, with or without scores."""

    kind = "negatives"

    file: File
    documents: Texts
    queries: Texts
    depth: int
    title: str = beside("negatives")

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Pairs."""
        collection = Collection("", self.documents, self.queries, {})
        found = given.read(self.file.place.lines(self.file.name), collection, self.depth)
        found.save(folder / GROUPS)
        return {"pairs": len(found)}


def groups_of(config: Config, shop: Workshop, pairs: Collection) -> Mine | Given:
    """The training groups of a cell's collection."""
    data, depth = config.data, config.recipe.negative_depth
    if data.groups:
        assert data.path is not None
        file = File.of(shop, place(data.path), data.groups)
        return Given(file, pairs.documents, pairs.queries, depth)
    judged = pairs.judgements(data.train_split)
    return Mine(pairs.documents, pairs.queries, judged, depth, split=data.train_split)
