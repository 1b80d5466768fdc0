"""Training groups: mined by BM25, or given with the data."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.config import Config
from lion_sweep.data import given
from lion_sweep.data.collection import Flaws, said
from lion_sweep.data.groups import Groups, join
from lion_sweep.data.places import place
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, write_json
from lion_sweep.machine import interruption
from lion_sweep.search import mining
from lion_sweep.search.base import WordsIndex
from lion_sweep.stages.base import Stage
from lion_sweep.stages.index import MINERS, IndexWords
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
        assert isinstance(index, WordsIndex)
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
    engine = MINERS[config.negatives.engine]
    index = IndexWords(pairs.documents, engine, title=f"index {pairs.name}")
    return Mine(pairs.judged[data.train_split], depth, index)
