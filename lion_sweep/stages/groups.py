"""Training groups: mined by BM25, mined by a finished cell, or given with the data."""

import shutil
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lion_sweep.config import Config
from lion_sweep.cost.meter import Spending
from lion_sweep.data import given
from lion_sweep.data.collection import Flaws, said
from lion_sweep.data.groups import Groups, join
from lion_sweep.data.places import place
from lion_sweep.errors import UserError
from lion_sweep.files import read_json, write_json
from lion_sweep.machine import interruption
from lion_sweep.machine.seal import mark, marked
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.search import mining
from lion_sweep.search.base import WordsIndex
from lion_sweep.search.parts import Stored
from lion_sweep.search.sparse import INDEX
from lion_sweep.stages.base import Stage
from lion_sweep.stages.by_vectors import Asking, VectorsIndex
from lion_sweep.stages.encode import VECTORS, Encode
from lion_sweep.stages.entropy import Scoring
from lion_sweep.stages.finished_weights import FinishedWeights
from lion_sweep.stages.index import MINERS, IndexWords, class_of, engine_of, over
from lion_sweep.stages.texts import Asked, File, ImportJudgements, ImportTexts, Source
from lion_sweep.stages.workshop import Workshop

GROUPS, FLAWS = "groups", "flaws.json"
AT_ONCE = 2**16  # queries of vectors that are searched together: every pass reads all passages


class Grouped(Stage):
    """A stage that leaves training groups in its folder."""

    # Whether candidates stand in the order by which they are drawn, whatever their own scores are.
    ranked: ClassVar[bool] = False

    @property
    @abstractmethod
    def listed_in(self) -> File:
        """The file with a line for each pair, or group."""

    @property
    def encodes(self) -> bool:
        """Whether it takes a model to make them, and so more than reading and counting."""
        return False


@dataclass(frozen=True, eq=False)
class Mine(Grouped):
    """BM25's first hits that are not relevant, and BM25's scores."""

    kind = "negatives"
    RULES = 2
    HIT: ClassVar[str] = "BM25 hit"

    judged: ImportJudgements
    depth: int

    index: IndexWords

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Batch by batch of queries; goes on after those that are there."""
        index = self.index.read(shop)
        assert isinstance(index, WordsIndex)
        return _mined(self, shop, folder, index, self.judged.queries.read(shop))

    @property
    def listed_in(self) -> File:
        return self.judged.file


@dataclass(frozen=True, eq=False)
class MineByCell(Grouped):
    """A finished cell's first hits that are not relevant, and its scores of them.

    It searches as it did to be scored, with its engine; scores are divided by its temperature, as
    those that it gives as a teacher.
    """

    kind = "negatives"
    HIT: ClassVar[str] = "hit of negatives.cell"

    judged: ImportJudgements
    depth: int
    engine: Mapping[str, Any]
    weights: FinishedWeights
    scoring: Scoring
    passages: Encode
    queries: Encode  # that are judged

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """As BM25 does, and what its vectors cost: those that others made before included."""
        judged, documents = self.judged.read(shop), self.judged.documents
        done = [encode.whole(shop) for encode in (self.passages, self.queries)]
        passages, queries = (Stored(one.folder / VECTORS) for one in done)
        score = self.scoring.of_vectors(self.passages, shop)
        vectors = passages if class_of(self.engine).streams else passages.all()
        device = shop.execution.accelerator.device
        engine = over(self.engine, documents, vectors, shop, folder, device)
        temperature = self.scoring.temperature
        index = VectorsIndex(documents.read(shop).ids, engine, passages, score, temperature)
        asked = Asking(self.judged.queries.read(shop).ids, judged.asked_rows, queries)
        facts = _mined(self, shop, folder, index, asked, AT_ONCE)
        shutil.rmtree(folder / INDEX, ignore_errors=True)
        costs = {
            kind: sum((Spending(**one.facts[kind]) for one in done), Spending()).as_dict()
            for kind in ("planned", "spent")
        }
        spent = (one.facts["spent"]["useful_flops"] for one in done)
        names = (encode.name for encode in (self.passages, self.queries))
        return facts | costs | {"parts": dict(zip(names, spent, strict=True))}

    @property
    def listed_in(self) -> File:
        return self.judged.file

    @property
    def encodes(self) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class Given(Grouped):
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
        return told(shop, len(groups), flaws)

    @property
    def listed_in(self) -> File:
        return self.file


def _mined(
    stage: Mine | MineByCell,
    shop: Workshop,
    folder: Path,
    index: mining.Index,
    queries: mining.Queries,
    at_once: int | None = None,
) -> dict[str, Any]:
    """The groups of all batches, and facts; those that a killed process left are not made again."""
    judged, parts = stage.judged.read(shop), folder / "parts"
    parts.mkdir(exist_ok=True)
    total = mining.count(judged, at_once)
    done = next(n for n in range(total + 1) if not marked(parts / f"{n:06}"))
    for groups, left_out in mining.batches(index, queries, judged, stage.depth, done, at_once):
        groups.save(parts / ".begun")
        write_json(parts / ".begun" / FLAWS, left_out)
        part = parts / f"{done:06}"
        shutil.rmtree(part, ignore_errors=True)  # one that is not whole
        (parts / ".begun").rename(part)
        mark(part)
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
            f"No query of the split {stage.judged.split!r} has a {stage.HIT} besides its "
            "positives, so there is nothing to train against: the collection is too small, or "
            "its texts share no words."
        )
    shutil.rmtree(parts)
    return told(shop, pairs, dict(flaws))


def told(shop: Workshop, pairs: int, flaws: Flaws) -> dict[str, Any]:
    """Facts, which are said where something was left out."""
    if words := said(flaws):
        shop.progress.say(f"{pairs:,} training groups; {words}")
    return {"pairs": pairs} | flaws


def groups_of(config: Config, shop: Workshop, pairs: Source) -> Mine | MineByCell | Given:
    """Those of a cell, before any are dropped."""
    data, depth, chosen = config.data, config.recipe.negative_depth, config.negatives
    judged = pairs.judged[data.train_split]
    if data.groups:
        assert data.path is not None
        file = File.of(shop, place(data.path), data.groups)
        return Given(file, pairs.documents, pairs.queries, depth)
    if chosen.cell:
        return _by_cell(FinishedWeights.named(chosen.cell, shop.root), shop, pairs, judged, depth)
    index = IndexWords(pairs.documents, MINERS[chosen.engine], title=f"index {pairs.name}")
    return Mine(judged, depth, index)


def _by_cell(
    weights: FinishedWeights, shop: Workshop, pairs: Source, judged: ImportJudgements, depth: int
) -> MineByCell:
    config = weights.cell.config
    engine = engine_of(config, config.paradigm.made_by.kind)
    queries, passages = weights.tokens(pairs, shop, "miner's")
    return MineByCell(
        judged,
        depth,
        engine,
        weights,
        weights.scoring,
        weights.encode(passages, None, PASSAGES, "miner encodes passages"),
        weights.encode(queries, Asked(judged), QUERIES, "miner encodes queries"),
    )
