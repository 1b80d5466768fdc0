"""Adapters as people bring them: PEFT's own hidden states, or a sentence that says why not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from lion_sweep.config import Config
from lion_sweep.errors import UserError
from lion_sweep.interop import checkpoints
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.proxy import train_tokenizer

Compose = Callable[..., Config]
IDS = torch.tensor([[5, 17, 3, 42, 61]])
QV = ["q_proj", "v_proj"]
FIRST = r"layers\.0\.self_attn\.q_proj"
# What it is trained around, and with which settings.
ADAPTERS = {
    "names by a pattern": (True, {"target_modules": r".*\.(0|1)\.(self_attn\.q|mlp\.up)_proj"}),
    "whole names": (True, {"target_modules": r"model\.layers\.0\.self_attn\.(q|v)_proj"}),
    "without head, whole names": (False, {"target_modules": r"layers\.1\.self_attn\.(q|v)_proj"}),
    "ranks and alphas by patterns": (
        True,
        {
            "target_modules": QV,
            "rank_pattern": {rf"model\.{FIRST}": 7},
            "alpha_pattern": {r"^model\.layers\.0.*": 32},
        },
    ),
    "without head, ranks and alphas by patterns": (
        False,
        {
            "target_modules": QV,
            "rank_pattern": {rf"^{FIRST}": 7},
            "alpha_pattern": {rf"^{FIRST}": 32},
        },
    ),
    "all that is linear": (True, {"target_modules": "all-linear"}),
    "embeddings and head that trained": (
        True,
        {"target_modules": QV, "modules_to_save": ["embed_tokens", "lm_head"]},
    ),
    "without head, embeddings and norm": (
        False,
        {"target_modules": QV, "modules_to_save": ["embed_tokens", "norm"]},
    ),
    "embeddings adapted": (True, {"target_modules": [*QV, "embed_tokens"]}),
    "magnitudes": (True, {"target_modules": QV, "use_dora": True}),
}


@pytest.fixture
def base(make_model, tmp_path: Path) -> Path:
    """A tiny decoder."""
    make_model().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(base: Path, has_head: bool, **settings: object) -> PeftModel:
    """An adapter that changes something, around a bidirectional decoder."""
    torch.manual_seed(3)
    model = (AutoModelForCausalLM if has_head else AutoModel).from_pretrained(base)
    model.config.is_causal = False
    kind = None if has_head else TaskType.FEATURE_EXTRACTION
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type=kind, **settings))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    return adapted.eval()


@torch.no_grad()
def pefts(model: PeftModel) -> torch.Tensor:
    """PEFT's own last hidden states."""
    return model(IDS, output_hidden_states=True).hidden_states[-1]


def ours(folder: Path, config: Config) -> torch.Tensor:
    """The same of what `evaluate` loads."""
    found = checkpoints.find(str(folder), None, config, "dense")
    assert found.kind == "adapter" and found.adapted
    backbone = found.make(torch.float32).backbone
    assert not any("lora" in name for name, _ in backbone.model.named_parameters())
    with torch.no_grad():
        return backbone.hidden_states(IDS, torch.ones_like(IDS))


@pytest.mark.parametrize("name", ADAPTERS)
def test_states_are_pefts(base: Path, tmp_path: Path, compose_cell: Compose, name: str) -> None:
    has_head, settings = ADAPTERS[name]
    model = trained(base, has_head, **settings)
    model.save_pretrained(tmp_path / "adapter")
    found, expected = ours(tmp_path / "adapter", compose_cell("ladder=full")), pefts(model)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    without = Backbone.load(base).hidden_states(IDS, torch.ones_like(IDS))
    assert (without - expected).abs().max() > 1e-2


def test_embeddings_saved_beside_an_adapter(
    base: Path, tmp_path: Path, compose_cell: Compose
) -> None:
    """They are used, where they have the base's rows; more rows are refused."""
    model, folder = trained(base, True, target_modules=QV), tmp_path / "adapter"
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(0.3)
    model.save_pretrained(folder, save_embedding_layers=True)
    config = compose_cell("ladder=full")
    torch.testing.assert_close(ours(folder, config), pefts(model), atol=1e-5, rtol=1e-5)
    wide = trained(base, True, target_modules=QV)
    wide.resize_token_embeddings(105)
    wide.save_pretrained(folder, save_embedding_layers=True)
    with pytest.raises(UserError, match=r"size mismatch .*105.*97.*with as many tokens\?"):
        ours(folder, config)


def test_an_adapters_own_tokenizer_reads_the_texts(
    base: Path, tmp_path: Path, compose_cell: Compose
) -> None:
    folder, config = tmp_path / "adapter", compose_cell("ladder=full")
    trained(base, True, target_modules=QV).save_pretrained(folder)
    assert checkpoints.find(str(folder), None, config, "dense").source == str(base)
    train_tokenizer(["lions roar"]).save_pretrained(folder)
    assert checkpoints.find(str(folder), None, config, "dense").source == str(folder)


def test_weights_that_are_missing_or_have_no_place(
    base: Path, tmp_path: Path, compose_cell: Compose
) -> None:
    folder, config = tmp_path / "adapter", compose_cell("ladder=full")
    trained(base, True, target_modules=QV).save_pretrained(folder)
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    save_file({key: w for key, w in state.items() if "layers.1." not in key}, path)
    with pytest.raises(UserError, match=r"0 of its weights .* 4 places get none \(base_model.mod"):
        ours(folder, config)
    with pytest.raises(UserError, match="is no whole adapter of its base: 4 weights are in one"):
        Backbone.load(base).with_adapter(folder)
    save_file(state | {"base_model.model.extra.weight": torch.ones(1)}, path)
    with pytest.raises(UserError, match=r"1 of its weights have no place there \(.*extra.weight\)"):
        ours(folder, config)
    settings = folder / "adapter_config.json"
    told = json.loads(settings.read_text()) | {"target_modules": r"other\.layers\..*q_proj"}
    settings.write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"does not fit its base: .*other"):
        ours(folder, config)


def test_prompt_tuning_and_quantised_bases_are_refused(
    base: Path, tmp_path: Path, compose_cell: Compose
) -> None:
    folder, config = tmp_path / "adapter", compose_cell("ladder=full")
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3)
    get_peft_model(model, settings).save_pretrained(folder)
    with pytest.raises(UserError, match="is prompt tuning, which puts vectors before a text"):
        checkpoints.find(str(folder), None, config, "dense")
    trained(base, True, target_modules=QV).save_pretrained(folder)
    path = base / "config.json"
    told = json.loads(path.read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}}
    path.write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"base is quantised \(bitsandbytes\)"):
        ours(folder, config)
