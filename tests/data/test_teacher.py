"""Training groups of a cell, mined and taught, against BM25 and a mean-pooled encoder written here.

Shapes: P training pairs, M mined negatives, L tokens, D dimensions.
"""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import teacher_encoder
from transformers import BertModel

from lion_sweep.config import Config
from lion_sweep.config.site import SiteName
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import Interrupted, UserError
from lion_sweep.machine import interruption
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.site import settle
from lion_sweep.search.parts import Stored
from lion_sweep.stages import embed, scorers
from lion_sweep.stages.base import Stage
from lion_sweep.stages.groups import GROUPS, groups_of, teacher_of
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.workshop import Workshop

Compose = Callable[..., Config]

# Words that are their own stems, and none a stop word.
WORDS = ["lion", "zebra", "river", "stone", "cloud", "grass", "wind", "moon"]
LENGTH, DEPTH, ENCODER_WEIGHT, BM25_WEIGHT = 5, 4, 2.5, 0.3
# No training pair speaks of the first query, nor of the first document.
QUERIES = {
    "q9": "grass",
    "q2": "river stone",
    "q0": "lion",
    "q1": "zebra wind moon grass lion cloud stone",
}
QRELS = {"q0": ["d3", "d1"], "q1": ["d7"], "q2": ["d0"]}


def documents() -> dict[str, str]:
    """Of two to nine words each, in an order that is not that of their ids."""
    rng = np.random.default_rng(3)
    named = {f"d{n}": " ".join(rng.choice(WORDS, rng.integers(2, 10))) for n in (5, 3, 0, 7, 1, 2)}
    return {"d9": "silence"} | named


DOCUMENTS = documents()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The collection in BEIR's layout; its queries lie in another order than their judgements."""
    root = tmp_path / "beir"
    (root / "qrels").mkdir(parents=True)
    for name, held in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in held.items()]
        (root / f"{name}.jsonl").write_text("\n".join(lines))
    judged = [f"{q}\t{d}\t1" for q, relevant in QRELS.items() for d in relevant]
    for split in ("train", "test"):
        (root / "qrels" / f"{split}.tsv").write_text("\n".join(judged))
    return root


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """The teacher's, whose tokens are words."""
    teacher_encoder(tmp_path / "encoder", WORDS)
    return tmp_path / "encoder"


def groups_of_a_cell(config: Config) -> Groups:
    """What the cell's training reads."""
    shop = Workshop(Path(config.paths.root), Progress("cell", None))
    config = settle(config, SiteName.laptop)
    pairs, _ = evaluation_sets(config, shop)[config.data.name]
    groups: Stage = groups_of(config, shop, pairs)
    if config.loss.needs_teacher:
        groups = teacher_of(config, shop, pairs, groups_of(config, shop, pairs))
    return Groups.load(shop.folder(groups) / GROUPS)


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
    attempts, groups = 0, None
    while groups is None:
        attempts += 1
        with suppress(Interrupted):
            groups = groups_of_a_cell(config)
    assert attempts > 4
    model = BertModel.from_pretrained(encoder).eval()

    def taught(query: str, document: str) -> float:
        texts = QUERIES[query], DOCUMENTS[document]
        one_D, other_D = (plain_vector(model, text) for text in texts)
        cosine = torch.nn.functional.cosine_similarity(one_D, other_D, dim=0)
        return ENCODER_WEIGHT * float(cosine) + BM25_WEIGHT * plain_bm25(QUERIES[query], document)

    queries, names = list(QUERIES), list(DOCUMENTS)
    seen, lengths = [], set()
    for row in range(len(groups)):
        query, positive = queries[groups.query_P[row]], names[groups.positive_P[row]]
        seen.append((query, positive))
        score = groups.positive_score_P[row]
        assert score == pytest.approx(taught(query, positive), rel=1e-5)
        # The best hits first, less what is relevant of them.
        ranked = sorted(names, key=lambda name: (-plain_bm25(QUERIES[query], name), name))
        hits = [name for name in ranked[:DEPTH] if plain_bm25(QUERIES[query], name) > 0]
        expected = [name for name in hits if name not in QRELS[query]]
        rows_M = groups.negative_PM[row]
        negatives = [names[number] for number in rows_M[rows_M != MISSING]]
        assert negatives == expected
        assert (rows_M[: len(expected)] != MISSING).all()
        lengths.add(len(expected))
        for name, score in zip(negatives, groups.negative_score_PM[row], strict=False):
            assert score == pytest.approx(taught(query, name), rel=1e-5)
    assert seen == [(query, document) for query, listed in QRELS.items() for document in listed]
    assert len(lengths) > 1  # rows are filled to different lengths


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
    groups, names = groups_of_a_cell(config), list(DOCUMENTS)
    assert [list(QUERIES)[row] for row in groups.query_P] == ["q1", "q2"]
    assert [names[row] for row in groups.positive_P] == ["d7", "d0"]
    assert [names[row] for row in groups.negative_PM.ravel()[:3]] == ["d0", "d5", "d3"]
    assert groups.negative_PM[1, 1] == MISSING
    assert groups.positive_score_P.tolist() == [3, 4]
    assert groups.negative_score_PM.tolist() == [[-2, 0.5], [6, 0]]


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
    groups = groups_of_a_cell(compose_cell(*words))
    model, names = BertModel.from_pretrained(encoder).eval(), list(DOCUMENTS)
    for row in range(len(groups)):
        query = "moon wind " + list(QUERIES.values())[groups.query_P[row]]
        document = "cloud " + DOCUMENTS[names[groups.positive_P[row]]]
        vectors = (plain_vector(model, text) for text in (query, document))
        expected = float(torch.nn.functional.cosine_similarity(*vectors, dim=0))
        assert groups.positive_score_P[row] == pytest.approx(expected, rel=1e-5)
    path = encoder / "model.safetensors"
    save_file({k: w for k, w in load_file(path).items() if "layer.0." not in k}, path)
    with pytest.raises(UserError, match=r"no whole BertModel: 16 weights \(encoder.layer.0."):
        groups_of_a_cell(compose_cell(*words))
