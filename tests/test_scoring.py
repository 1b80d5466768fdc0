"""The row of BM25: two engines, two stages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lion_sweep import prepare
from lion_sweep.config import Config
from lion_sweep.prepare import Workshop
from lion_sweep.progress import Progress
from lion_sweep.retrieval.anserini import lucene_available
from lion_sweep.retrieval.bm25 import BM25Index
from lion_sweep.retrieval.bm25_lucene import LuceneBM25Index
from lion_sweep.retrieval.runs import Run
from lion_sweep.scoring import RUN, bm25
from lion_sweep.stage import key_of

AVAILABLE, REASON = lucene_available()


@pytest.mark.skipif(not AVAILABLE, reason=f"Lucene cannot run here: {REASON}")
def test_engines_have_stages_of_their_own(
    compose_cell: Callable[..., Config], small_beir: Path, tmp_path: Path
) -> None:
    runs, keys = {}, {}
    for engine in ("bm25s", "lucene"):
        config = compose_cell(
            "data=beir",
            "data.name=twin",
            f"data.path={small_beir}",
            f"paths.root={tmp_path}",
            f"evaluation.bm25_engine={engine}",
        )
        workshop = Workshop(config, Progress("bm25", None))
        collection, split = prepare.evaluation_sets(workshop)["twin"]
        scores = bm25(workshop, collection, split)
        assert list(scores["nDCG@10"]) == collection.asked(split)
        done = workshop.stages["search bm25 twin"]
        runs[engine], keys[engine] = Run.load(done.folder / RUN), done.key
    asked, texts = collection.asked(split), collection.documents
    specification = {
        "bm25": texts.checksum,
        "queries": collection.queries.checksum,
        "ids": key_of(asked),
        "depth": 1000,
    }
    assert keys["bm25s"] == key_of(specification)
    assert keys["lucene"] == key_of(specification | {"engine": "lucene"})
    queries = collection.queries.of(asked)
    by_lucene = LuceneBM25Index(texts.ids, texts.all(), tmp_path / "again")
    assert runs["lucene"] == by_lucene.search(asked, queries, 1000)
    assert runs["bm25s"] == BM25Index(texts.ids, texts.all()).search(asked, queries, 1000)
