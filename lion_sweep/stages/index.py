"""Engines of a configuration, and the index of a collection's words, which searches share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lion_sweep.config import Config
from lion_sweep.config.classes import class_named
from lion_sweep.config.schema import Miner
from lion_sweep.search.base import Engine, Where
from lion_sweep.search.bm25 import BM25Index
from lion_sweep.search.bm25_lucene import LuceneBM25Index
from lion_sweep.stages.base import Stage
from lion_sweep.stages.texts import ImportTexts
from lion_sweep.stages.workshop import Workshop

CPU = torch.device("cpu")
RULES, TARGET = "rules", "_target_"
# What negatives are mined with; engines of the same names search words with these too.
BM25 = {TARGET: "lion_sweep.search.bm25.BM25Index", RULES: BM25Index.RULES}
LUCENE = {TARGET: "lion_sweep.search.bm25_lucene.LuceneBM25Index", RULES: LuceneBM25Index.RULES}
MINERS = {Miner.exact: BM25, Miner.lucene: LUCENE}


def class_of(engine: Mapping[str, Any]) -> type[Engine]:
    found: type[Engine] = class_named(engine[TARGET])
    return found


def engine_of(config: Config, kind: str) -> Mapping[str, Any]:
    """What searches such vectors, or words: a class, its RULES and what it reads."""
    chosen = config.engine.of(kind, config.paradigm.name)
    return {**chosen, RULES: class_of(chosen).RULES}


def over(
    engine: Mapping[str, Any],
    documents: ImportTexts,
    given: Any,
    shop: Workshop,
    folder: Path,
    device: torch.device = CPU,
) -> Engine:
    """The index of what is `given` of the documents, vectors or texts, in a folder of its own."""
    settings = {key: value for key, value in engine.items() if key not in (RULES, TARGET)}
    where = Where(folder, device, shop.progress.say, shop.progress.step)
    return class_of(engine).over(documents.read(shop).ids, given, where, **settings)


@dataclass(frozen=True, eq=False)
class IndexWords(Stage):
    """An index that whoever searches opens in this folder; of an engine that `keeps` it."""

    kind = "index"

    documents: ImportTexts
    engine: Mapping[str, Any]

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        over(self.engine, self.documents, self.documents.read(shop), shop, folder)
        return {}

    def read(self, shop: Workshop) -> Engine:
        return over(self.engine, self.documents, self.documents.read(shop), shop, shop.folder(self))
