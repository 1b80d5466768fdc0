"""From a finished search to values per query; all stages of an encoder on one collection."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.config import Config
from lion_sweep.data.collection import Collection, Judgements
from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.files import read_json, write_json
from lion_sweep.search.base import WORDS
from lion_sweep.search.runs import Run
from lion_sweep.stages.backbone import Asked
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.search import RUN, TREC, Search, SearchWords, engine_of
from lion_sweep.stages.workshop import Workshop

Scores = dict[str, dict[str, float]]
PER_QUERY = "per_query.json"


@dataclass(frozen=True, eq=False)
class Score(Stage):
    """Values per query of a run."""

    kind = "score"

    searched: Search | SearchWords
    judged: Judgements
    measures: list[str]
    title: str = beside()

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Their means."""
        run = Run.load(shop.folder(self.searched) / RUN)
        scores = evaluate(run, self.judged.qrels, self.measures)
        write_json(folder / PER_QUERY, scores)
        return mean(scores)

    def scores(self, shop: Workshop) -> Scores:
        """By measure and query, done first where they are not."""
        scores: Scores = read_json(shop.folder(self) / PER_QUERY)
        return scores


@dataclass(frozen=True)
class Scored:
    """One encoder on one collection: encode, search, score."""

    passages: Encode
    queries: Encode
    searched: Search
    score: Score

    def run(self, shop: Workshop) -> Scores:
        """All of it."""
        for encode in (self.passages, self.queries):
            encode.whole(shop)
        return self.score.scores(shop)

    def efficiency(self, shop: Workshop) -> dict[str, float]:
        """What search needs: the index's figures, and seconds of encoding and of search.

        Those of encoding are the wall-clock time of one job; of several, of all added up.
        """
        passages, queries, searched = map(shop.run, (self.passages, self.queries, self.searched))
        found: dict[str, float] = dict(searched.facts)
        if "L0" in passages.facts:
            found["L0_documents"] = passages.facts["L0"]
            found["L0_queries"] = queries.facts["L0"]
        found["encode_seconds"] = sum(
            done.facts.get("seconds", done.seconds) for done in (passages, queries)
        )
        found["search_seconds"] = searched.seconds
        return found


def bm25(config: Config, collection: Collection, split: str) -> Score:
    """The reference row: BM25 over the same texts."""
    evaluation = config.evaluation
    name, judged = collection.name, collection.judgements(split)
    asked, engine = Asked(collection.queries, collection.asked(split)), engine_of(config, WORDS)
    searched = SearchWords(
        collection.documents, asked, engine, evaluation.depth, title=f"search bm25 {name}"
    )
    return Score(searched, judged, evaluation.measures_of(name), title=f"score bm25 {name}")


def keep(
    shop: Workshop, folder: Path, tested: Mapping[str, Scored], references: Mapping[str, Score]
) -> None:
    """Runs and values per query, BM25's too, by the name of the collection."""
    for part in ("runs", "per_query"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, found in tested.items():
        shutil.copyfile(shop.folder(found.searched) / TREC, folder / "runs" / f"{name}.trec")
        write_json(folder / "per_query" / f"{name}.json", found.score.scores(shop))
        write_json(folder / "per_query" / f"{name}.bm25.json", references[name].scores(shop))
