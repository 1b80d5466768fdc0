"""From vectors, or words, to a run and its values per query; all stages of an encoder on texts."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lion_sweep.config import Config
from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.files import read_json, write_json
from lion_sweep.search.base import WORDS
from lion_sweep.search.parts import Stored
from lion_sweep.search.runs import Run, drop_self_hits, write_trec
from lion_sweep.search.sparse import INDEX
from lion_sweep.stages.base import Stage, ancestry, beside
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.entropy import Entropy
from lion_sweep.stages.index import IndexWords, class_of, engine_of, over
from lion_sweep.stages.prune import Prune
from lion_sweep.stages.texts import ImportJudgements, Source
from lion_sweep.stages.workshop import Workshop

RUN, TREC, PER_QUERY = "run.npz", "run.trec", "per_query.json"
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class SearchWords(Stage):
    """The `depth` best documents of every query by their words, which BM25 finds as a rule."""

    kind = "search"

    asked: ImportJudgements
    engine: Mapping[str, Any]
    depth: int
    index: IndexWords | None = None  # of an engine that keeps it

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        documents, asked = self.asked.documents, self.asked.read(shop).asked
        if self.index:
            built = self.index.read(shop)
        else:
            built = over(self.engine, documents, documents.read(shop), shop, folder)
        run = built.search(asked, self.asked.queries.read(shop).of(asked), self.depth)
        write_run(run, folder, "bm25")
        return {}


@dataclass(frozen=True, eq=False)
class Search(SearchWords):
    """The same by an encoder's vectors of both."""

    passages: Encode | Prune = field(kw_only=True)
    queries: Encode | Prune = field(kw_only=True)
    handed_on: bool = beside(True)  # whether others read the run

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """The index's figures; of sparse vectors also what exhaustive scoring multiplies."""
        documents_N, queries_Q = self.passages.read(shop), self.queries.read(shop)
        streams = class_of(self.engine).streams
        given = documents_N if streams else documents_N.all()
        device = shop.execution.accelerator.device
        built = over(self.engine, self.asked.documents, given, shop, folder, device)
        run = built.search(self.asked.read(shop).asked, queries_Q.all(), self.depth)
        tag = f"lion_sweep-{self.passages.name.rpartition('-')[2]}"
        write_run(run, folder, tag if self.handed_on else None)
        shutil.rmtree(folder / INDEX, ignore_errors=True)
        shares = {"flops": flops(queries_Q, documents_N)} if self.passages.sparse else {}
        return built.stats() | shares


def write_run(run: Run, folder: Path, tag: str | None) -> None:
    """The run as arrays, with a `tag` also in TREC's form for others; no query finds itself."""
    run = drop_self_hits(run)
    run.save(folder / RUN)
    if tag:
        write_trec(run, folder / TREC, tag)


def flops(queries_QV: Stored, documents_NV: Stored) -> float:
    """Terms that a query and a document share on average: what exhaustive scoring multiplies.

    Source: Paria et al., Minimizing FLOPs to Learn Efficient Sparse Representations, ICLR 2020.
    """
    share_of_queries_V = queries_QV.terms_V / len(queries_QV)
    share_of_documents_V = documents_NV.terms_V / len(documents_NV)
    return float(share_of_queries_V @ share_of_documents_V)


@dataclass(frozen=True, eq=False)
class Score(Stage):
    """Values per query of a run."""

    kind = "score"

    searched: SearchWords
    judged: ImportJudgements
    measures: list[str]

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        run = Run.load(shop.folder(self.searched) / RUN)
        scores = evaluate(run, self.judged.read(shop).qrels, self.measures)
        write_json(folder / PER_QUERY, scores)
        return mean(scores)

    def scores(self, shop: Workshop) -> Scores:
        return read_json(shop.folder(self) / PER_QUERY)


@dataclass(frozen=True)
class Tried:
    """A search with so many of the largest terms of sparse vectors, and its scores."""

    queries: int
    passages: int
    searched: Search
    score: Score

    def told(self, shop: Workshop) -> dict[str, Any]:
        """Scores and costs."""
        found = {"queries": self.queries, "passages": self.passages}
        return found | {"scores": mean(self.score.scores(shop))} | costs(shop, self.searched)


@dataclass(frozen=True)
class Scored:
    """One encoder on one collection: encode, search, score, entropy; search with fewer terms."""

    passages: Encode
    queries: Encode
    searched: Search
    score: Score
    entropy: Entropy
    topk: Mapping[str, Tried] = field(default_factory=dict)  # by name, as 10/100

    @property
    def scores(self) -> tuple[Score, ...]:
        """Of all its searches."""
        return self.score, *(tried.score for tried in self.topk.values())

    def run(self, shop: Workshop) -> Scores:
        for encode in (self.passages, self.queries):
            encode.whole(shop)
        shop.run(self.entropy)
        return self.score.scores(shop)

    def efficiency(self, shop: Workshop) -> dict[str, float]:
        """What search needs, and seconds of encoding.

        Those are the wall-clock time of one job; of several, of all added up.
        """
        passages, queries = map(shop.run, (self.passages, self.queries))
        encoded = (done.facts.get("seconds", done.seconds) for done in (passages, queries))
        return costs(shop, self.searched) | {"encode_seconds": sum(encoded)}

    def curve(self, shop: Workshop) -> dict[str, dict[str, Any]]:
        """Scores and costs with fewer terms."""
        return {name: tried.told(shop) for name, tried in self.topk.items()}


def made_of(tested: Iterable[Scored], references: Iterable[Score]) -> dict[str, Stage]:
    """All stages of some encoders and reference rows, by title, what is read before its reader."""
    found = list(tested)
    scores = (score for one in found for score in one.scores)
    return ancestry((*scores, *references, *(one.entropy for one in found)))


def costs(shop: Workshop, searched: Search) -> dict[str, float]:
    """The index's figures, the L0 of sparse vectors, seconds of search.

    Of vectors that were brought to an L0 also that one, and what they were encoded with.
    """
    done = shop.run(searched)
    found: dict[str, float] = dict(done.facts)
    for name, vectors in (("documents", searched.passages), ("queries", searched.queries)):
        facts = shop.run(vectors).facts
        if "L0" in facts:
            found[f"L0_{name}"] = facts["L0"]
        if "vectors" in facts:
            found[f"vectors_{name}"] = facts["vectors"]
        if isinstance(vectors, Prune) and vectors.target is not None:
            found[f"L0_{name}_target"] = vectors.target
            found[f"L0_{name}_encoded"] = facts["L0_encoded"]
    return found | {"search_seconds": done.seconds}


def bm25(config: Config, source: Source, split: str) -> Score:
    """The reference row: BM25 over the same texts."""
    evaluation, called, judged = config.evaluation, f"bm25 {source.name}", source.judged[split]
    engine, measures = engine_of(config, WORDS), evaluation.measures_of(source.name)
    keeps = class_of(engine).keeps
    index = IndexWords(source.documents, engine, title=f"index {called}") if keeps else None
    searched = SearchWords(judged, engine, evaluation.depth, index, title=f"search {called}")
    return Score(searched, judged, measures, title=f"score {called}")


def keep(
    shop: Workshop, folder: Path, tested: Mapping[str, Scored], references: Mapping[str, Score]
) -> None:
    """Runs, values per query, BM25's too, and entropies, by the name of the collection."""
    for part in ("runs", "per_query"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, found in tested.items():
        shutil.copyfile(shop.folder(found.searched) / TREC, folder / "runs" / f"{name}.trec")
        write_json(folder / "per_query" / f"{name}.json", found.score.scores(shop))
        write_json(folder / "per_query" / f"{name}.bm25.json", references[name].scores(shop))
        write_json(folder / "per_query" / f"{name}.entropy.json", found.entropy.values(shop))
