"""From a finished search to values per query; BM25 as the reference row. No models are imported."""

import json
from pathlib import Path
from typing import Any

from lion_sweep.config_data import BM25Engine
from lion_sweep.data.collection import Collection
from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.prepare import Workshop
from lion_sweep.retrieval.bm25 import BM25Index
from lion_sweep.retrieval.bm25_lucene import LuceneBM25Index
from lion_sweep.retrieval.runs import Run, drop_self_hits, write_trec
from lion_sweep.stage import Stage, key_of, write_json

Scores = dict[str, dict[str, float]]
RUN, TREC = "run.npz", "run.trec"


def score(
    workshop: Workshop,
    collection: Collection,
    split: str,
    searched: Stage,
    measures: list[str],
    title: str = "",
) -> Scores:
    """Values per query of a finished search's run."""

    def work(folder: Path) -> dict[str, Any]:
        scores = evaluate(Run.load(searched.folder / RUN), collection.qrels[split], measures)
        write_json(folder / "per_query.json", scores)
        return mean(scores)

    specification = {
        "search": searched.folder.name,
        "qrels": key_of(collection.qrels[split]),
        "measures": measures,
    }
    shown = f"score {title}{collection.name}"
    done = workshop.run("score", specification, work, shown)
    scores: Scores = json.loads((done.folder / "per_query.json").read_text(encoding="utf-8"))
    return scores


def write_run(run: Run, folder: Path, tag: str) -> None:
    """The run as arrays, which `score` reads, and for others; no query finds itself."""
    run = drop_self_hits(run)
    run.save(folder / RUN)
    write_trec(run, folder / TREC, tag)


def bm25(workshop: Workshop, collection: Collection, split: str) -> Scores:
    """The reference row: BM25 over the same texts."""
    depth, asked = workshop.config.evaluation.depth, collection.asked(split)
    by_lucene = workshop.config.evaluation.bm25_engine is BM25Engine.lucene

    def work(folder: Path) -> dict[str, Any]:
        ids, texts = collection.documents.ids, collection.documents.all()
        index: BM25Index | LuceneBM25Index
        index = (
            LuceneBM25Index(ids, texts, folder / "lucene") if by_lucene else BM25Index(ids, texts)
        )
        run = index.search(asked, collection.queries.of(asked), depth)
        write_run(run, folder, "bm25")
        return {}

    specification = {
        "bm25": collection.documents.checksum,
        "queries": collection.queries.checksum,
        "ids": key_of(asked),
        "depth": depth,
    }
    if by_lucene:
        specification["engine"] = BM25Engine.lucene.name
    searched = workshop.run("search", specification, work, f"search bm25 {collection.name}")
    measures = workshop.config.evaluation.measures_of(collection.name)
    return score(workshop, collection, split, searched, measures, "bm25 ")
