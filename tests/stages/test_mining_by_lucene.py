"""Negatives that Lucene finds: its hits without positives, with its scores, from a shared index."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lion_sweep.config import Config
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import UserError
from lion_sweep.machine.progress import Progress
from lion_sweep.search import anserini
from lion_sweep.search.bm25_lucene import LuceneBM25Index
from lion_sweep.stages import validation
from lion_sweep.stages.groups import GROUPS, groups_of
from lion_sweep.stages.search import bm25
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.workshop import Workshop

REASON = anserini.missing()
needed = pytest.mark.skipif(bool(REASON), reason=f"Lucene cannot run here: {REASON}")
DEPTH = 12


@pytest.fixture
def config(compose_cell: Callable[..., Config], small_beir: Path, tmp_path: Path) -> Config:
    words = ["data=beir", "data.name=twin", f"data.path={small_beir}", f"paths.root={tmp_path}"]
    words += ["negatives.engine=lucene", f"recipe.negative_depth={DEPTH}", "engine=lucene"]
    return compose_cell(*words)


@needed
def test_they_are_its_hits_with_its_scores(config: Config, tmp_path: Path) -> None:
    shop = Workshop(tmp_path, Progress("cell", None))
    source, split = evaluation_sets(config, shop)["twin"]
    groups = Groups.load(shop.folder(groups_of(config, shop, source)) / GROUPS)
    collection = source.read(shop)
    documents, judged = collection.documents, collection.judged[config.data.train_split]
    ids, queries = list(documents.ids), list(collection.queries.ids)
    index = LuceneBM25Index(documents.ids, documents.all(), tmp_path / "again")
    # All documents are asked for, so that positives of low rank have scores here too.
    run = index.search(judged.asked, collection.queries.of(judged.asked), len(ids))
    assert len(groups) > 100
    for pair in range(len(groups)):
        query = queries[groups.query_P[pair]]
        hits, relevant = dict(run.hits(query)), judged.qrels[query]
        positive = ids[groups.positive_P[pair]]
        assert relevant[positive] > 0
        known = hits.get(positive, 0.0)
        assert groups.positive_score_P[pair] == pytest.approx(known, rel=1e-5)
        first = [name for name in list(hits)[:DEPTH] if relevant.get(name, 0) <= 0]
        row_M = groups.negative_PM[pair]
        assert [ids[row] for row in row_M[row_M != MISSING]] == first
        scores = groups.negative_score_PM[pair, : len(first)]
        np.testing.assert_allclose(scores, [hits[name] for name in first], rtol=1e-6)
    # The row of BM25 searches the same index.
    row = bm25(config, source, split)
    row.scores(shop)
    assert len(list(tmp_path.glob("stages/index-*/lucene/index"))) == 1
    assert not list(tmp_path.glob("stages/index-*/lucene/documents"))


def test_without_java_it_is_refused_first(
    compose_cell: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not where the data has groups of its own."""
    monkeypatch.setattr(LuceneBM25Index, "missing", staticmethod(lambda: "no Java here"))
    words = ["data=beir", "data.path=folder", "negatives.engine=lucene"]
    with pytest.raises(UserError, match=r"negatives\.engine=lucene: no Java here\. Or use"):
        validation.check_engines(compose_cell(*words))
    validation.check_engines(compose_cell(*words, "data.groups=groups.jsonl"))
