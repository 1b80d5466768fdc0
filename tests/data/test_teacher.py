"""What a teacher says of the pairs that are drawn, against BM25 and an encoder written here.

Shapes: P training pairs, M mined negatives, R rows of queries, G = 1 + negatives, L tokens, D
dimensions.
"""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import teacher_encoder
from taught_pairs import DOCUMENTS, QRELS, QUERIES, WORDS, taught, teacher, write_collection
from transformers import BertModel

from lion_sweep.config import Config, Sampling, changed
from lion_sweep.cost.meter import Spending
from lion_sweep.data import drawn
from lion_sweep.data.groups import MISSING
from lion_sweep.errors import Interrupted, UserError
from lion_sweep.machine import interruption
from lion_sweep.search.parts import Stored
from lion_sweep.stages import embed, scorers
from lion_sweep.stages.embed import Embed
from lion_sweep.stages.teacher import SCORES

Compose = Callable[..., Config]

LENGTH, DEPTH, ENCODER_WEIGHT, BM25_WEIGHT = 5, 4, 2.5, 0.3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The collection."""
    return write_collection(tmp_path / "beir")


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """The teacher's, whose tokens are words."""
    teacher_encoder(tmp_path / "encoder", WORDS)
    return tmp_path / "encoder"


def plain_bm25(query: str, document: str, k1: float = 0.9, b: float = 0.4) -> float:
    """Lucene's BM25 with exact lengths."""
    held = [text.split() for text in DOCUMENTS.values()]
    mean_length = sum(map(len, held)) / len(held)
    words, total = DOCUMENTS[document].split(), 0.0
    for word in query.split():
        frequency, having = words.count(word), sum(word in text for text in held)
        idf = math.log(1 + (len(held) - having + 0.5) / (having + 0.5))
        room = k1 * (1 - b + b * len(words) / mean_length)
        total += idf * frequency / (frequency + room)
    return total


def plain_vector(model: BertModel, text: str) -> torch.Tensor:
    """Mean state of a text's first tokens, encoded alone."""
    ids_1L = torch.tensor([[2 + WORDS.index(word) for word in text.split()[:LENGTH]]])
    with torch.no_grad():
        mean_D: torch.Tensor = model(input_ids=ids_1L).last_hidden_state[0].mean(dim=0)
    return mean_D


def test_every_score_of_every_negative(
    compose_cell: Compose,
    folder: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embed, "BATCH_TOKENS", 12)  # several micro-batches
    monkeypatch.setattr(scorers, "PAIRS", 3)
    monkeypatch.setattr(drawn, "FIRST", 12)  # of two steps
    # Passages are read in blocks of three, and the encoder is stopped after every micro-batch.
    monkeypatch.setattr(Stored, "blocks", partialmethod(Stored.blocks, 3))
    stops = SimpleNamespace(requested=lambda: True, stop=interruption.stop)
    monkeypatch.setattr(embed, "interruption", stops)
    config = compose_cell(
        "data=beir",
        f"data.path={folder}",
        f"paths.root={tmp_path / 'out'}",
        "loss=clkd",
        f"teacher.scorers.encoder.model={encoder}",
        f"teacher.scorers.encoder.weight={ENCODER_WEIGHT}",
        f"teacher.scorers.own.weight={BM25_WEIGHT}",
        f"teacher.scorers.encoder.length={LENGTH}",
        f"recipe.negative_depth={DEPTH}",
    )
    attempts, found = 0, None
    while found is None:
        attempts += 1
        with suppress(Interrupted):
            found = taught(config)
    assert attempts > 4
    step, groups = found
    model = BertModel.from_pretrained(encoder).eval()

    def expected(query: str, document: str) -> float:
        texts = QUERIES[query], DOCUMENTS[document]
        one_D, other_D = (plain_vector(model, text) for text in texts)
        cosine = torch.nn.functional.cosine_similarity(one_D, other_D, dim=0)
        return ENCODER_WEIGHT * float(cosine) + BM25_WEIGHT * plain_bm25(QUERIES[query], document)

    queries, names = list(QUERIES), list(DOCUMENTS)
    seen, lengths = [], set()
    for row in range(len(groups)):
        query, positive = queries[groups.query_P[row]], names[groups.positive_P[row]]
        seen.append((query, positive))
        # The best hits first, less what is relevant of them.
        ranked = sorted(names, key=lambda name: (-plain_bm25(QUERIES[query], name), name))
        hits = [name for name in ranked[:DEPTH] if plain_bm25(QUERIES[query], name) > 0]
        left = [name for name in hits if name not in QRELS[query]]
        rows_M = groups.negative_PM[row]
        assert [names[number] for number in rows_M[rows_M != MISSING]] == left
        assert (rows_M[: len(left)] != MISSING).all()
        lengths.add(len(left))
    assert seen == [(query, document) for query, listed in QRELS.items() for document in listed]
    assert len(lengths) > 1  # rows are filled to different lengths

    pairs = set()
    for row, passages, scores in zip(step.query_B, step.passage_BG, step.teacher_BG, strict=True):
        for passage, score in zip(passages, scores, strict=True):
            pairs.add((queries[row], names[passage]))
            assert score == pytest.approx(expected(queries[row], names[passage]), rel=1e-5)
    known = np.c_[groups.positive_P, groups.negative_PM]
    every = zip(groups.query_P, known, strict=True)
    assert pairs == {(queries[q], names[d]) for q, row in every for d in row if d != MISSING}


def test_trainings_share_what_they_draw_and_nothing_else_is_read(
    compose_cell: Compose,
    folder: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A longer course reads the texts that it alone draws, and finds the others."""
    monkeypatch.setattr(drawn, "FIRST", 6)  # of one step
    config = compose_cell(
        "data=beir",
        f"data.path={folder}",
        f"paths.root={tmp_path / 'out'}",
        "loss=clkd",
        f"teacher.scorers.encoder.model={encoder}",
        "teacher.scorers.encoder.weight=1",
        f"recipe.negative_depth={len(DOCUMENTS)}",
    )

    def vectors() -> int:
        found = tmp_path.glob("out/stages/embed-*/vectors/*.npz")
        return sum(len(np.load(path)["rows"]) for path in found)

    scores, read = [], []
    for steps in (1, 7):
        teach, shop = teacher(config, steps)
        done = shop.run(teach)
        assert done.facts["steps"] == steps
        first = teach.course.draws.sampler(shop).first(steps)
        assert vectors() == len(np.unique(first.query_B)) + len(np.unique(first.passage_BG))
        paid = teach.paid(shop, steps).values()
        assert all(isinstance(stage, Embed) for stage in paid)
        planned = sum((stage.planned(shop) for stage in paid), Spending())
        assert done.facts["spent"] == done.facts["planned"] == planned.as_dict()
        scores.append(np.load(done.folder / SCORES))
        read.append(done.facts["spent"]["tokens"])
    np.testing.assert_array_equal(scores[1][: len(scores[0])], scores[0])
    assert 0 < read[0] < read[1]


def test_given_scores_reach_the_cell(compose_cell: Compose, folder: Path, tmp_path: Path) -> None:
    """Of lines in two forms, as many negatives as are asked for, with the scores they came with."""
    records = [
        {"question": QUERIES["q1"], "pos_pid": "d7", "neg_pids": ["d0", "d5", "d2"]}
        | {"pos_score": 1.5, "neg_scores": [-1, 0.25, 9]},
        {"query_id": "q2", "document_ids": ["d0", "d3"], "scores": [2, 3]},
    ]
    (folder / "groups.jsonl").write_text("\n".join(map(json.dumps, records)))
    config = compose_cell(
        "data=beir",
        f"data.path={folder}",
        "data.groups=groups.jsonl",
        f"paths.root={tmp_path / 'out'}",
        "loss=kd",
        "teacher=given",
        "teacher.scorers.own.weight=2",
        "recipe.negative_depth=2",
    )
    (step, groups), names = taught(config), list(DOCUMENTS)
    assert [list(QUERIES)[row] for row in groups.query_P] == ["q1", "q2"]
    assert [names[row] for row in groups.positive_P] == ["d7", "d0"]
    assert [names[row] for row in groups.negative_PM.ravel()[:3]] == ["d0", "d5", "d3"]
    assert groups.negative_PM[1, 1] == MISSING
    wanted = {
        ("q1", "d7"): 3,
        ("q1", "d0"): -2,
        ("q1", "d5"): 0.5,
        ("q2", "d0"): 4,
        ("q2", "d3"): 6,
    }
    found = {
        (list(QUERIES)[row], names[passage]): score
        for row, passages, scores in zip(
            step.query_B, step.passage_BG, step.teacher_BG.tolist(), strict=True
        )
        for passage, score in zip(passages, scores, strict=True)
    }
    assert found == wanted
    # Those two of three that score highest, whatever the order in the file.
    teach, shop = teacher(changed(config, {"recipe.negative_depth": 3}))
    draws = replace(teach.course.draws, sampling=Sampling.top)
    step = draws.sampler(shop).step(0)
    at = step.query_B.tolist().index(list(QUERIES).index("q1"))
    assert [names[row] for row in step.passage_BG[at]] == ["d7", "d2", "d5"]
    assert step.teacher_BG[at].tolist() == [1.5, 9, 0.25]


def test_prompts_of_the_encoder_and_weights_that_it_lacks(
    compose_cell: Compose, folder: Path, encoder: Path, tmp_path: Path
) -> None:
    """Prompts stand before the texts that it reads; a layer that is missing is refused."""
    words = [
        "data=beir",
        f"data.path={folder}",
        f"paths.root={tmp_path / 'out'}",
        "loss=clkd",
        f"teacher.scorers.encoder.model={encoder}",
        "teacher.scorers.encoder.weight=1",
        "teacher.scorers.own.weight=0",
        f"teacher.scorers.encoder.length={LENGTH}",
    ]
    told = {"prompts": {"query": "moon wind ", "document": "cloud ", "passage": "stone "}}
    (encoder / "config_sentence_transformers.json").write_text(json.dumps(told))
    step, _ = taught(compose_cell(*words))
    model, names = BertModel.from_pretrained(encoder).eval(), list(DOCUMENTS)
    for row, passage, score in zip(
        step.query_B, step.passage_BG[:, 0], step.teacher_BG[:, 0], strict=True
    ):
        query = "moon wind " + list(QUERIES.values())[row]
        vectors = (
            plain_vector(model, text) for text in (query, "cloud " + DOCUMENTS[names[passage]])
        )
        expected = float(torch.nn.functional.cosine_similarity(*vectors, dim=0))
        assert score == pytest.approx(expected, rel=1e-5)
    path = encoder / "model.safetensors"
    save_file({k: w for k, w in load_file(path).items() if "layer.0." not in k}, path)
    with pytest.raises(UserError, match=r"no whole BertModel: 16 weights \(encoder.layer.0."):
        taught(compose_cell(*words))
