"""A cross-encoder's scores of the pairs that are drawn, against transformers' own forward pass.

Shapes: R rows of queries, G = 1 + negatives, C pairs.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from taught_pairs import DOCUMENTS, QUERIES, WORDS, taught, teacher, write_collection
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from lion_sweep.config import Config
from lion_sweep.cost.ledger import classifier_flops, teacher_flops
from lion_sweep.cost.meter import Spending
from lion_sweep.data import drawn
from lion_sweep.errors import Interrupted, UserError
from lion_sweep.machine import interruption
from lion_sweep.search.parts import Stored
from lion_sweep.stages import embed
from lion_sweep.stages.score_pairs import ScorePairs
from lion_sweep.stages.teacher import SCORES

Compose = Callable[..., Config]

# Longer than every query, and shorter than some pairs.
LENGTH, WEIGHT = 12, 1.5
SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.5,
}
# What stands around two texts: BERT's, with types, and RoBERTa's, with none and more in between.
FORMS = {
    "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    "roberta": ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]"),
}


def cross_encoder(folder: Path, form: str = "bert", labels: int = 1) -> Path:
    """A small classifier with random weights, and a tokenizer whose tokens are words."""
    tokens = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS]
    vocabulary = {word: number for number, word in enumerate(tokens)}
    if form == "roberta":  # whose padding is token 1
        vocabulary |= {"[PAD]": 1, "[CLS]": 0}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    single, pair = FORMS[form]
    special = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single, pair, special)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if form == "bert" else [])]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_input_names=names,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    shape = SHAPE | {"vocab_size": len(vocabulary), "num_labels": labels}
    if form == "bert":
        BertForSequenceClassification(BertConfig(**shape)).save_pretrained(folder)
    else:
        config = RobertaConfig(**shape, pad_token_id=1, type_vocab_size=1)
        RobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


def words_of(tmp_path: Path, model: Path, *more: str) -> list[str]:
    """What a cell is asked for with."""
    folder = tmp_path / "beir"
    if not folder.exists():
        write_collection(folder)
    return [
        "data=beir",
        f"data.path={folder}",
        f"paths.root={tmp_path / 'out'}",
        "loss=clkd",
        "teacher=cross-encoder",
        f"teacher.scorers.cross_encoder.model={model}",
        f"teacher.scorers.cross_encoder.length={LENGTH}",
        f"teacher.scorers.cross_encoder.weight={WEIGHT}",
        "recipe.negative_depth=4",
        *more,
    ]


@pytest.mark.parametrize(("form", "labels"), [("bert", 1), ("bert", 2), ("roberta", 1)])
def test_every_pair_has_the_score_of_its_own_forward_pass(
    compose_cell: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    labels: int,
) -> None:
    """In several parts and micro-batches, stopped after each of these."""
    monkeypatch.setattr(drawn, "FIRST", 12)  # of two steps
    monkeypatch.setattr(embed, "BATCH_TOKENS", 40)
    stops = SimpleNamespace(requested=lambda: True, stop=interruption.stop)
    monkeypatch.setattr(embed, "interruption", stops)
    source = cross_encoder(tmp_path / "model", form, labels)
    config, attempts, found = compose_cell(*words_of(tmp_path, source)), 0, None
    while found is None:
        attempts += 1
        with suppress(Interrupted):
            found = taught(config)
    assert attempts > 4
    step, _ = found
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForSequenceClassification.from_pretrained(source).double().eval()
    queries, documents = list(QUERIES.values()), list(DOCUMENTS.values())
    lengths = set()
    for row, passages, scores in zip(step.query_B, step.passage_BG, step.teacher_BG, strict=True):
        for passage, score in zip(passages, scores, strict=True):
            pair = tokenizer(
                queries[row],
                documents[passage],
                truncation="only_second",
                max_length=LENGTH,
                return_tensors="pt",
            )
            lengths.add(pair["input_ids"].shape[1])
            with torch.no_grad():
                logits = model(**pair).logits[0].tolist()
            expected = logits[0] if labels == 1 else logits[1] - logits[0]
            assert score == pytest.approx(WEIGHT * expected, rel=1e-4, abs=1e-5)
    assert max(lengths) == LENGTH and len(lengths) > 3  # some are cut, and some are not
    assert np.unique(step.teacher_BG).size > 8


def test_trainings_share_pairs_and_are_charged_what_was_planned(
    compose_cell: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A longer course has the pairs scored that it alone draws; each is scored once."""
    monkeypatch.setattr(drawn, "FIRST", 6)  # of one step
    config = compose_cell(*words_of(tmp_path, cross_encoder(tmp_path / "model")))

    def scored() -> int:
        return sum(len(Stored(one)) for one in tmp_path.glob("out/stages/pairs-*/scores"))

    scores, spent = [], []
    for steps in (1, 7):
        teach, shop = teacher(config, steps)
        paid = teach.paid(shop, steps).values()
        assert all(isinstance(stage, ScorePairs) for stage in paid)
        planned = sum((stage.planned(shop) for stage in paid), Spending())
        done = shop.run(teach)
        first = teach.course.draws.sampler(shop).first(steps)
        query_RG = np.repeat(first.query_B[:, None], first.passage_BG.shape[1], axis=1)
        assert scored() == len(set(zip(query_RG.flat, first.passage_BG.flat, strict=True)))
        assert done.facts["spent"] == done.facts["planned"] == planned.as_dict()
        scores.append(np.load(done.folder / SCORES))
        spent.append(done.facts["spent"]["useful_flops"])
    np.testing.assert_array_equal(scores[1][: len(scores[0])], scores[0])
    assert 0 < spent[0] < spent[1]


@pytest.mark.parametrize(("form", "labels"), [("bert", 1), ("bert", 2), ("roberta", 1)])
def test_a_pair_costs_what_pytorch_counts(tmp_path: Path, form: str, labels: int) -> None:
    source = cross_encoder(tmp_path / "model", form, labels)
    eager = {"attn_implementation": "eager"}  # of other attention not all is counted
    model = AutoModelForSequenceClassification.from_pretrained(source, **eager).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(input_ids=torch.full((3, 11), 4), attention_mask=torch.ones(3, 11).long())
    each = teacher_flops(model.config, np.array([11]))[0] + classifier_flops(model.config)
    assert counter.get_total_flops() == 3 * each


def test_a_query_that_leaves_no_room_is_named(compose_cell: Compose, tmp_path: Path) -> None:
    """The one of seven words needs ten tokens of a pair of ten."""
    words = words_of(tmp_path, cross_encoder(tmp_path / "model"))
    teach, shop = teacher(compose_cell(*words, "teacher.scorers.cross_encoder.length=10"))
    with pytest.raises(UserError, match=r"reads 10 tokens .* 1 queries alone .* such as 'q1': rai"):
        shop.run(teach)
    assert not list(tmp_path.glob("out/stages/pairs-*[0-9a-f]/scores"))


def test_models_that_score_no_pairs_are_refused(compose_cell: Compose, tmp_path: Path) -> None:
    def refused(model: Path | str, *more: str) -> str:
        with pytest.raises(UserError) as error:
            taught(compose_cell(*words_of(tmp_path, Path(model), *more)))
        return str(error.value)

    three = cross_encoder(tmp_path / "three", labels=3)
    assert "three tells 3 labels apart" in refused(three)
    good = cross_encoder(tmp_path / "good")
    said = refused(good, "teacher.scorers.cross_encoder.length=600")
    assert "cross_encoder.length=600 tokens of a pair: choose 8 to 512" in said
    assert "teacher.scorers.cross_encoder cannot be had: " in refused("no/such-model")
    path = good / "model.safetensors"
    save_file({k: w for k, w in load_file(path).items() if "classifier" not in k}, path)
    assert "is no whole BertForSequenceClassification: 2 weights" in refused(good)


def test_a_model_is_known_by_what_it_holds(compose_cell: Compose, tmp_path: Path) -> None:
    """Wherever it lies; and pairs by what of them is read."""
    source = cross_encoder(tmp_path / "model")
    copy = Path(shutil.copytree(source, tmp_path / "copy"))

    def name(model: Path, *more: str) -> str:
        teach, shop = teacher(compose_cell(*words_of(tmp_path, model, *more)))
        [part, *_] = teach.paid(shop, 1).values()
        return part.name

    known = name(source)
    assert known == name(copy)
    assert known == name(source, "teacher.scorers.own.weight=0.5")  # which is beside it
    assert known != name(source, "teacher.scorers.cross_encoder.length=11")
    weights = load_file(copy / "model.safetensors")
    save_file({key: 2 * weight for key, weight in weights.items()}, copy / "model.safetensors")
    assert known != name(copy)
