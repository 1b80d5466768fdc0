"""The row of BM25: two engines, two stages."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import bm25_index

from lion_sweep.config import Config
from lion_sweep.machine.progress import Progress
from lion_sweep.search.anserini import missing
from lion_sweep.search.bm25_lucene import LuceneBM25Index
from lion_sweep.search.runs import Run
from lion_sweep.stages.search import RUN, bm25
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.workshop import Workshop

REASON = missing()


@pytest.mark.skipif(bool(REASON), reason=f"Lucene cannot run here: {REASON}")
def test_engines_have_stages_of_their_own(
    compose_cell: Callable[..., Config], small_beir: Path, tmp_path: Path
) -> None:
    runs, keys = {}, {}
    for engine in ("exact", "lucene"):
        config = compose_cell(
            "data=beir",
            "data.name=twin",
            f"data.path={small_beir}",
            f"paths.root={tmp_path}",
            f"engine={engine}",
        )
        shop = Workshop(tmp_path, Progress("bm25", None))
        source, split = evaluation_sets(config, shop)["twin"]
        row, collection = bm25(config, source, split), source.read(shop)
        assert list(row.scores(shop)["nDCG@10"]) == collection.judged[split].asked
        runs[engine] = Run.load(shop.folder(row.searched) / RUN)
        keys[engine] = row.searched.specification
    asked, texts = collection.judged[split].asked, collection.documents
    theirs = {name: keys["lucene"][name] for name in ("engine", "index")}
    assert keys["exact"] | theirs == keys["lucene"]
    assert all(keys["exact"][name] != found for name, found in theirs.items())
    queries = collection.queries.of(asked)
    by_lucene = LuceneBM25Index(texts.ids, texts.all(), tmp_path / "again")
    assert runs["lucene"] == by_lucene.search(asked, queries, 1000)
    assert runs["exact"] == bm25_index(texts.ids, texts.all()).search(asked, queries, 1000)
