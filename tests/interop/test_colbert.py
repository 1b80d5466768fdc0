"""A checkpoint in ColBERTv2's form, scored from its files on: MaxSim in float64, text by text.

Shapes: L tokens of a text, D hidden dimensions, P dimensions of a vector.
"""

import json
import string
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from lion_sweep import evaluate, vectors
from lion_sweep.config import Config
from lion_sweep.config.paradigm import TokensOf
from lion_sweep.data.collection import write
from lion_sweep.errors import UserError
from lion_sweep.export.__main__ import export
from lion_sweep.export.form import Weights
from lion_sweep.interop import checkpoints, colbert
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.multi_vector import MultiVectorEncoder

QUERY_LENGTH, PASSAGE_LENGTH, P = 9, 12, 5
SPREAD = {"intermediate_size": 24, "initializer_range": 0.5}
PAIRS = [
    ("where is a lion?", "the lion (a cat) is in the grass, over there."),
    ("what roars", "roars: of lions; and of the sea..."),
    ("a whale in the sea that is over there in the grass", "whale, whale, whale!"),
]
SETTINGS = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "query_maxlen": QUERY_LENGTH,
    "doc_maxlen": PASSAGE_LENGTH,
    "dim": P,
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
    "similarity": "cosine",
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny one, as its authors write theirs."""
    words = {word for pair in PAIRS for text in pair for word in text.split()}
    words = {word.strip(string.punctuation) for word in words} | set(string.punctuation)
    special = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *sorted(words - {""})])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ends)
    named = {"pad_token": "[PAD]", "mask_token": "[MASK]", "sep_token": "[SEP]"}
    folder = tmp_path / "colbert"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", **named
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(vocabulary), **sizes, **SPREAD)
    BertModel(config).save_pretrained(folder)
    path = folder / "model.safetensors"
    weights = {f"bert.{name}": weight for name, weight in load_file(path).items()}
    save_file(weights | {"linear.weight": torch.randn(P, 16)}, path, {"format": "pt"})
    (folder / "artifact.metadata").write_text(json.dumps(SETTINGS))
    return folder


def states(folder: Path, ids: list[int], seen: int) -> torch.Tensor:
    """Unit vectors, [L, P], in float64; the first `seen` tokens are those that others see."""
    model = BertModel.from_pretrained(folder, attn_implementation="eager").double().eval()
    weight_PD = load_file(folder / "model.safetensors")["linear.weight"].double()
    mask_1L = (torch.arange(len(ids)) < seen).long()[None]
    with torch.no_grad():
        state_LD = model(torch.tensor([ids]), mask_1L).last_hidden_state[0]
    return torch.nn.functional.normalize(state_LD @ weight_PD.T, dim=-1)


def max_sim(folder: Path, query: str, passage: str) -> float:
    """As Khattab and Zaharia define it."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer.convert_tokens_to_ids
    asked = ids(["[CLS]", "[unused0]", *tokenizer.tokenize(query)[: QUERY_LENGTH - 3], "[SEP]"])
    filled = asked + ids(["[MASK]"]) * (QUERY_LENGTH - len(asked))
    written = tokenizer.tokenize(passage)[: PASSAGE_LENGTH - 3]
    held = ids(["[CLS]", "[unused1]", *written, "[SEP]"])
    spoken = [True, True, *(word not in string.punctuation for word in written), True]
    query_LP = states(folder, filled, len(asked))
    passage_LP = states(folder, held, len(held))[spoken]
    return float((query_LP @ passage_LP.T).amax(dim=1).sum())


def test_scores_are_max_sim_of_its_own_vectors(checkpoint: Path, tmp_path: Path) -> None:
    write(tmp_path / "pairs", {"train": PAIRS[:0], "test": PAIRS})
    GlobalHydra.instance().clear()  # the command composes for itself
    words = [f"data.path={tmp_path / 'pairs'}", f"paths.root={tmp_path / 'out'}", "tracking=none"]
    result = evaluate.evaluate(
        str(checkpoint), None, ["data=beir", "data.name=pairs", *words, "recipe.precision=fp32"]
    )
    assert (result["kind"], result["paradigm"]) == ("colbert", "multi-vector")
    runs = (Path(result["folder"]) / "runs" / "pairs.trec").read_text().splitlines()
    found = {(q, d): float(score) for q, _, d, _, score, _ in map(str.split, runs)}
    read = [
        [json.loads(line) for line in (tmp_path / "pairs" / name).read_text().splitlines()]
        for name in ("queries.jsonl", "corpus.jsonl")
    ]
    queries, corpus = ({one["_id"]: one["text"] for one in records} for records in read)
    expected = {
        (q, d): max_sim(checkpoint, query, passage)
        for q, query in queries.items()
        for d, passage in corpus.items()
    }
    assert len(expected) == 9 and found == pytest.approx(expected, rel=1e-5)
    told = result["efficiency"]["pairs"]
    assert told["vectors_queries"] == QUERY_LENGTH and told["dimensions"] == P
    passages = [passage for _, passage in PAIRS]
    signs = [sum(sign in string.punctuation for sign in one) for one in passages]
    assert told["vectors_documents"] < PASSAGE_LENGTH and min(signs) > 0
    assert np.isfinite(result["entropy"]["pairs"])


def test_other_forms_and_lost_weights_are_refused(checkpoint: Path) -> None:
    path = checkpoint / "artifact.metadata"
    for other, why in (
        ({"similarity": "l2"}, "similarity=l2"),
        ({"attend_to_mask_tokens": True}, "attend_to_mask_tokens=True"),
    ):
        path.write_text(json.dumps(SETTINGS | other))
        with pytest.raises(UserError, match=why):
            colbert.Settings.of(str(checkpoint))
    path.write_text(json.dumps({key: SETTINGS[key] for key in list(SETTINGS)[:4]}))
    with pytest.raises(UserError, match=r"artifact\.metadata lacks"):
        colbert.Settings.of(str(checkpoint))
    path.write_text(json.dumps(SETTINGS | {"dim": 7}))
    with pytest.raises(UserError, match=r"makes 5 dimensions, and .* dim=7"):
        colbert.load(str(checkpoint))
    weights = load_file(checkpoint / "model.safetensors")
    weights.pop("linear.weight")
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"has no weight linear\.weight"):
        colbert.load(str(checkpoint))


def test_a_decoder_without_a_projection_is_refused(
    make_model: Callable[..., Any], compose_cell: Callable[..., Config], tmp_path: Path
) -> None:
    """Rather than scored with a random one; with the one that training left it is scored."""
    folder, config = tmp_path / "decoder", compose_cell("paradigm=multi-vector")
    Backbone(make_model()).save(folder)
    with pytest.raises(
        UserError, match=r"is no folder with encoder\.safetensors.* paradigm=multi-vector"
    ):
        checkpoints.find(str(folder), None, config, "multi-vector")
    made = MultiVectorEncoder(Backbone(make_model()), 4, 1)
    made.backbone.save(folder)
    found = checkpoints.find(str(folder), None, config, "multi-vector").make(torch.float32)
    assert isinstance(found, MultiVectorEncoder) and found.shape == (4,)
    torch.testing.assert_close(found.projection_PD, made.projection_PD)
    encoder = {**config.paradigm.encoder, "dimension": 4}
    told = {"paradigm": "multi-vector", "encoder": encoder, "tokens": {"fill_queries": True}}
    (folder / "lion_sweep.json").write_text(json.dumps(told))
    own = checkpoints.find(str(folder), None, config, None).told
    assert own == {"paradigm.tokens": TokensOf(fill_queries=True), "paradigm.encoder": encoder}


def test_marks_of_one_vector_per_text_are_refused(compose_cell: Callable[..., Config]) -> None:
    config = compose_cell("paradigm=dense", "paradigm.tokens.fill_queries=true")
    with pytest.raises(UserError, match=r"paradigm\.tokens is for .* paradigm=dense has none"):
        config.paradigm.check("paradigm")


def test_what_holds_one_vector_per_text_refuses_a_cell(
    compose_cell: Callable[..., Config], tmp_path: Path
) -> None:
    cell: Any = SimpleNamespace(
        name="1b-multi", config=compose_cell("paradigm=multi-vector"), result={"collections": {}}
    )
    with pytest.raises(UserError, match=r"1b-multi has a vector per token.* paradigm=dense"):
        vectors.find(cell, None)
    with pytest.raises(UserError, match=r"no form of export yet: .*evaluate checkpoint=1b-multi"):
        export(cell, tmp_path / "model", Weights)
    assert not (tmp_path / "model").exists()
