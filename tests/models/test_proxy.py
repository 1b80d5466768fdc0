"""The shrunken decoders: reproducible, started as described, with the real ones' proportions."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support import listed
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaModel

from lion_sweep.config import config_folder
from lion_sweep.config.schema import ProxyShape
from lion_sweep.models import proxy
from lion_sweep.models.backbone import Backbone

SHAPE = ProxyShape(
    hidden_size=16, intermediate_size=24, layers=1, heads=2, key_value_heads=1, tied=False
)
PASSAGES = [
    "Return the number of open files below a folder, hidden files included.",
    "Write the bytes to the file and return how many were written.",
    "Raise an error when the socket is closed while a thread reads from it.",
] * 3
QUERIES = ["Count open files.", "Write bytes to a file.", "Read from a closed socket."]
SIZES = ("1b", "3b", "8b")


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.*")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proxy")
    build(folder, seed=3)
    return folder


def build(folder: Path, seed: int) -> None:
    """Train the tokenizer and build a stand-in."""
    (folder / "trained").mkdir(parents=True)
    queries = listed("never asked", *QUERIES)
    proxy.train(listed(*PASSAGES), queries, np.array([1, 2, 3]), folder / "trained")
    proxy.build(SHAPE, folder / "trained", folder, seed)


def published(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(shape of the stand-in, of the real model)."""
    told = yaml.safe_load((config_folder() / "model" / f"{name}.yaml").read_text())
    return told["proxy"], told["full_shape"]


def layers_of(model: Mapping[str, Any]) -> int:
    """Weights of the layers, counted in a real decoder; what FLOPs per token go by."""
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=model["hidden_size"],
        intermediate_size=model["intermediate_size"],
        num_hidden_layers=model["layers"],
        num_attention_heads=model["heads"],
        num_key_value_heads=model["key_value_heads"],
        head_dim=model.get("head_dim"),
    )
    with torch.device("meta"):
        layers = LlamaModel(config).layers
    return sum(weight.numel() for weight in layers.parameters())


def test_the_same_seed_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build(tmp_path / "same", seed=3)
    assert hashes(tmp_path / "same") == hashes(built)
    assert "model.safetensors" in hashes(built)
    build(tmp_path / "other", seed=4)
    other = hashes(tmp_path / "other")
    assert other["model.safetensors"] != hashes(built)["model.safetensors"]
    assert other["tokenizer.json"] == hashes(built)["tokenizer.json"]


def test_the_tokenizer_is_that_of_all_texts_and_counts_the_passages_of_each_token(
    built: Path,
) -> None:
    plain = proxy.train_tokenizer([*PASSAGES, *QUERIES])
    trained = AutoTokenizer.from_pretrained(built)
    assert trained.get_vocab() == plain.get_vocab()
    expected = np.zeros(len(plain), dtype=np.int64)
    for ids in plain(PASSAGES)["input_ids"]:
        expected[list(set(ids))] += 1
    frequency_V = np.load(built / "trained" / proxy.FREQUENCIES)
    assert frequency_V.tolist() == expected.tolist() and expected.max() == 9


def test_of_many_texts_a_sample_trains_the_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same one every time, passages and queries apart; batches change nothing."""
    monkeypatch.setattr(proxy, "SAMPLE", 4)
    monkeypatch.setattr(proxy, "RUN", 2)
    monkeypatch.setattr(proxy, "AT_ONCE", 3)
    passages = listed(*(f"passage number {number}" for number in range(9)))
    told = []
    for folder in (tmp_path / "one", tmp_path / "same"):
        folder.mkdir()
        proxy.train(passages, passages, np.arange(2), folder, lambda *n: told.append(n))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "same")
    assert told == [(3, 10), (4, 10), (6, 10), (9, 10), (10, 10)] * 2
    (passage,) = AutoTokenizer.from_pretrained(tmp_path / "one").encode("passage")
    assert np.load(tmp_path / "one" / proxy.FREQUENCIES)[passage] == 4


def test_embedding_rows_are_unit_length(built: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(built)
    rows_VD = model.model.embed_tokens.weight.detach()
    torch.testing.assert_close(rows_VD.norm(dim=1), torch.ones(len(rows_VD)), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.lm_head.weight.detach(), rows_VD)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    importance_V = rows_VD[:, 1:].norm(dim=1)
    assert importance_V.min() > 0.099
    assert importance_V.max() == pytest.approx(1, abs=1e-5)
    assert (rows_VD[:, 0] >= 0).all()


def test_a_rare_word_matters_more_than_a_frequent_one(built: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(built)
    rows_VD = LlamaForCausalLM.from_pretrained(built).model.embed_tokens.weight.detach()
    (frequent,) = tokenizer.encode("the")
    (rare,) = tokenizer.encode("socket")
    assert rows_VD[rare, 1:].norm() > rows_VD[frequent, 1:].norm()


def test_the_final_norm_drops_the_shared_dimension(built: Path) -> None:
    backbone = Backbone.load(built)
    norm_D = backbone.language_model.model.norm.weight
    assert norm_D[0] == 0
    torch.testing.assert_close(norm_D[1:], torch.full((15,), 10.0 * 16**-0.25))
    ids = torch.tensor([AutoTokenizer.from_pretrained(built).encode("closed socket")])
    states = backbone.hidden_states(ids, torch.ones_like(ids))[0]
    assert (states[:, 0] == 0).all()
    assert (states[:, 1:] != 0).any()


def test_the_tokenizer_lower_cases_and_covers_any_text(built: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(built)
    assert tokenizer.encode("SOCKET") == tokenizer.encode("socket")
    assert tokenizer.decode(tokenizer.encode("naïve 雪")).strip() == "naïve 雪"
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 1)


@pytest.mark.parametrize("name", SIZES)
def test_widths_are_a_thirty_second_of_the_real_ones(name: str) -> None:
    shape, real = published(name)
    assert shape["hidden_size"] == real["hidden_size"] // 32
    assert shape["intermediate_size"] == real["intermediate_size"] // 32
    assert shape["tied"] == real["tied"]


def test_layers_weigh_as_in_the_real_ones() -> None:
    """Against the smallest size, as far as so few layers can."""
    weights = [[layers_of(of) for of in published(name)] for name in SIZES]
    (one, real_one), *others = weights
    for (shape, real), off in zip(others, (0.15, 0.05), strict=True):
        assert shape / one == pytest.approx(real / real_one, rel=off)
