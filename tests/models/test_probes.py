"""Weights that are not whole, heads and attentions that are not ours: refused by name, or equal.

Shapes: B texts, L tokens, D hidden dimensions.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from lion_sweep.config import Attention, Config
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.encoders import Encoder
from lion_sweep.models.probes import check_attention, check_pooling
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.stages.validation import check_machine
from lion_sweep.training.adapt import IGNORED, mntp_loss

MakeModel = Callable[..., LlamaForCausalLM]
TEXT = [5, 17, 3, 42, 61]
SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
# Types of decoders, and what else makes them tiny. The first read their head as we do.
OURS = {
    "llama": {},
    "arcee": {},
    "ernie4_5": {},
    "exaone4": {},
    "falcon": {},
    "gemma": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "glm": {"head_dim": 8},
    "gpt2": {},
    "gpt_neox": {},
    "granite": {"logits_scaling": 1.0},
    "helium": {"head_dim": 8},
    "mistral": {},
    "mixtral": {"num_local_experts": 4},
    "olmo": {},
    "olmo2": {},
    "phi3": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {"head_dim": 8} | EXPERTS,
    "seed_oss": {"head_dim": 8},
    "smollm3": {},
    "starcoder2": {},
}
# Bidirectional, but something comes after the head's weight: for dense vectors without MNTP.
DENSE_ONLY = {
    "cohere": {"logit_scale": 0.0625},
    "cohere2": {"logit_scale": 0.0625},
    "gemma2": {"head_dim": 8},
    "granite": {"logits_scaling": 8.0},
    "phi": {},
}
CAUSAL = {
    "stablelm": ({}, "causal attention"),
    "nemotron": ({}, "causal attention"),
    "gpt_neo": ({"attention_types": [[["global", "local"], 1]]}, "causal attention"),
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, "conv"),
    "qwen3_next": ({"head_dim": 8} | EXPERTS, "linear_attention"),
}


def saved(kind: str, changes: dict[str, object], folder: Path) -> Path:
    """A tiny decoder of that type with random weights, biases too."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **changes}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.2)
    model.save_pretrained(folder)
    return folder


def states(backbone: Backbone, text: list[int], left: int = 0, right: int = 0) -> Tensor:
    """States of the real tokens of `text`, padded with arbitrary tokens on both sides, [L, D]."""
    ids_BL = torch.tensor([[9] * left + text + [7] * right])
    mask_BL = torch.tensor([[0] * left + [1] * len(text) + [0] * right])
    with torch.no_grad():
        return backbone.hidden_states(ids_BL, mask_BL)[0, left : left + len(text)]


def own(folder: Path) -> tuple[Tensor, Tensor]:
    """(hidden states, logits) of the model's own forward pass, when told what sees what: all."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder).eval()
    model.config.is_causal = False
    ids_BL, full = torch.tensor([TEXT]), torch.zeros(1, 1, len(TEXT), len(TEXT))
    with torch.no_grad():
        told = model(input_ids=ids_BL, attention_mask=full, output_hidden_states=True)
    return told.hidden_states[-1][0], told.logits[0]


@pytest.mark.parametrize(("kind", "changes"), [*OURS.items(), *DENSE_ONLY.items()])
def test_states_of_every_type_are_its_own(
    kind: str, changes: dict[str, object], tmp_path: Path
) -> None:
    folder = saved(kind, changes, tmp_path)
    backbone = Backbone.load(folder)
    found_LD, expected_LD = states(backbone, TEXT), own(folder)[0]
    torch.testing.assert_close(found_LD, expected_LD, atol=1e-5, rtol=1e-5)
    for left, right in ((3, 0), (0, 3)):
        padded_LD = states(backbone, TEXT, left, right)
        torch.testing.assert_close(padded_LD, found_LD, atol=1e-5, rtol=1e-5)
    assert (states(backbone, [*TEXT[:-1], 88])[0] - found_LD[0]).abs().max() > 1e-3


@pytest.mark.parametrize(("kind", "changes"), OURS.items())
def test_logits_of_every_type_are_its_own(
    kind: str, changes: dict[str, object], tmp_path: Path
) -> None:
    folder = saved(kind, changes, tmp_path)
    backbone, (_, logits_LV) = Backbone.load(folder), own(folder)
    ids_BL = torch.tensor([TEXT])
    vector_V = SparseEncoder(backbone, 0.0)(ids_BL, torch.ones_like(ids_BL))[0]
    expected_V = torch.log1p(torch.relu(logits_LV.max(dim=0).values * 32**-0.25))
    torch.testing.assert_close(vector_V, expected_V, atol=1e-5, rtol=1e-5)
    target_BL = torch.tensor([[IGNORED, 4, IGNORED, 8, IGNORED]])
    expected = torch.nn.functional.cross_entropy(
        logits_LV[[0, 2]], torch.tensor([4, 8]), reduction="sum"
    )
    torch.testing.assert_close(mntp_loss(backbone, ids_BL, target_BL), expected)


@pytest.mark.parametrize(("kind", "changes"), DENSE_ONLY.items())
def test_logits_that_are_more_than_a_product_are_refused(
    kind: str, changes: dict[str, object], tmp_path: Path, compose_cell: Callable[..., Config]
) -> None:
    """When a cell is checked, before any work, and by whoever reads the head."""
    folder = saved(kind, changes, tmp_path)
    backbone, says = Backbone.load(folder), f"of type '{kind}': its logits are not its head's"
    assert DenseEncoder(backbone, "mean").shape == (32,)
    with pytest.raises(UserError, match=says):
        assert SparseEncoder(backbone, 0.0).shape
    words = [f"model.backbone={folder}", "site.devices=1"]
    for more in (["paradigm=sparse", "recipe.adapt.steps=0"], ["paradigm=dense"]):
        with pytest.raises(UserError, match=says):
            check_machine(compose_cell(*words, *more), SiteName.laptop)
    check_machine(compose_cell(*words, "paradigm=dense", "recipe.adapt.steps=0"), SiteName.laptop)


@pytest.mark.parametrize("kind", CAUSAL)
def test_types_that_stay_causal_are_refused(kind: str, tmp_path: Path) -> None:
    changes, why = CAUSAL[kind]
    folder = saved(kind, changes, tmp_path)
    says = rf"of type '{kind}' cannot be made bidirectional \({why}\)"
    with pytest.raises(UserError, match=says):
        Backbone.load(folder)


BACKBONES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text")


def one_step(encoder: Encoder, ids_BL: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors' sum of squares before and after a step of gradient descent along it."""
    lossed = []
    for _ in range(2):
        loss = encoder(ids_BL, mask_BL).square().sum()
        lossed.append(loss.detach())
        encoder.backbone.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in encoder.backbone.trainable().values():
                if parameter.grad is not None:
                    assert parameter.grad.isfinite().all()
                    parameter -= 1e-4 * parameter.grad
    return lossed[0], lossed[1]


@pytest.mark.parametrize("attention", Attention)
@pytest.mark.parametrize("kind", BACKBONES)
def test_every_backbone_is_probed_trained_and_encodes(
    kind: str, attention: Attention, tmp_path: Path
) -> None:
    """Dense, and sparse where its head can be read; as it is, and with a later token changed."""
    folder = saved(kind, (OURS | DENSE_ONLY)[kind], tmp_path)
    backbone = Backbone.load(folder, attention=attention)
    first_D, other_D = (states(backbone, [*TEXT[:-1], last], right=2)[0] for last in (61, 88))
    assert torch.equal(first_D, other_D) == (attention is Attention.causal)
    if attention is Attention.causal:
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        with torch.no_grad():
            told = model(input_ids=torch.tensor([TEXT]), output_hidden_states=True)
        for left, right in ((0, 0), (3, 0), (0, 3)):
            found_LD = states(backbone, TEXT, left, right)
            torch.testing.assert_close(found_LD, told.hidden_states[-1][0], atol=1e-5, rtol=1e-5)
    encoders: list[Encoder] = [DenseEncoder(backbone, "tokens"), SparseEncoder(backbone, 0.0)]
    batch = torch.tensor([[5, 17, 3], [8, 33, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    if kind in DENSE_ONLY:
        with pytest.raises(UserError, match="its logits are not its head's"):
            encoders.pop()(*batch)
    for encoder in encoders:
        check_pooling(encoder)
        before, after = one_step(encoder, *batch)
        assert 0 < after < before
        with torch.no_grad():
            assert encoder.rows(*batch).shape == (2, *encoder.shape)


def test_a_decoder_that_sees_ahead_is_not_read_causally(make_model: MakeModel) -> None:
    backbone = Backbone(make_model())  # whatever it was asked for
    with pytest.raises(UserError, match=r"cannot be read causally \(it sees later tokens\)"):
        check_attention(backbone.language_model, backbone.hidden_states, causal=True)
    backbone = Backbone(make_model(is_causal=True))
    check_attention(backbone.language_model, backbone.hidden_states, causal=True)
    with pytest.raises(UserError, match=r"cannot be made bidirectional \(causal attention\)"):
        check_attention(backbone.language_model, backbone.hidden_states, causal=False)


def changed(folder: Path, change: Callable[[str], str | None]) -> Path:
    """The saved model with its weights renamed; without those whose new name is None."""
    path = folder / "model.safetensors"
    state = {change(key): weight for key, weight in load_file(path).items()}
    save_file({key: weight for key, weight in state.items() if key}, path, {"format": "pt"})
    return folder


def without(pattern: str) -> Callable[[str], str | None]:
    return lambda key: None if re.search(pattern, key) else key


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "_orig_mod.{}".format,
            r"21 weights \(lm_head.weight, model.embed_tokens.weight, .*\.\.\.\) that it needs are "
            r"missing .* begin with '_orig_mod.'",
        ),
        ("module.{}".format, "21 weights .* begin with 'module.'"),
        (
            without(r"layers\.1\."),
            r"no whole LlamaForCausalLM: 9 weights \(model.layers.1.input_layernorm.weight, "
            r".*Save the model again",
        ),
        (
            lambda key: key.replace("layers.1.", "layers.4."),
            r"9 weights .*, 9 weights \(model.layers.4.input_layernorm.weight, .* have no place",
        ),
        (without("embed_tokens"), r"1 weights \(model.embed_tokens.weight\)"),
    ],
)
def test_a_model_that_is_not_whole_is_refused(
    make_model: MakeModel, tmp_path: Path, change: Callable[[str], str | None], says: str
) -> None:
    make_model().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=says):
        Backbone.load(changed(tmp_path, change))


def test_a_layer_too_many_and_weights_of_another_width_are_refused(
    make_model: MakeModel, tmp_path: Path
) -> None:
    make_model().save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.num_hidden_layers = 1
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"needs are missing .*, 9 weights \(model.layers.1.*place"):
        Backbone.load(tmp_path)
    config.num_hidden_layers, config.intermediate_size = 2, 40
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="its weights cannot be read"):
        Backbone.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(UserError, match="its weights cannot be read"):
        Backbone.load(tmp_path)


def test_files_of_weights_that_are_missing_or_cut_off_are_refused_before_any_work(
    make_model: MakeModel, tmp_path: Path, compose_cell: Callable[..., Config]
) -> None:
    make_model().save_pretrained(tmp_path, max_shard_size="20KB")
    words = [f"model.backbone={tmp_path}", "site.devices=1", "recipe.adapt.steps=0"]
    config = compose_cell(*words, "paradigm=dense")
    check_machine(config, SiteName.laptop)
    first, *others = sorted(tmp_path.glob("*.safetensors"))
    weights = load_file(first)
    name, _ = weights.popitem()
    save_file(weights, first, {"format": "pt"})
    with pytest.raises(UserError, match=rf"{first} lacks 1 weights \({name}\), which the index"):
        check_machine(config, SiteName.laptop)
    first.write_bytes(first.read_bytes()[:-4])
    with pytest.raises(UserError, match=rf"{first} cannot be read \(.*\): copy the whole model"):
        check_machine(config, SiteName.laptop)
    first.unlink()
    with pytest.raises(UserError, match=f"{first} is missing, which the index beside it names"):
        check_machine(config, SiteName.laptop)
    for file in (*others, tmp_path / "model.safetensors.index.json"):
        file.unlink()
    with pytest.raises(UserError, match=f"{tmp_path} holds no weights, such as model.safetensors"):
        check_machine(config, SiteName.laptop)


def test_tied_heads_and_casts_are_whole(make_model: MakeModel, tmp_path: Path) -> None:
    make_model(tie_word_embeddings=True).save_pretrained(tmp_path)
    backbone = Backbone.load(tmp_path, torch.bfloat16)
    assert backbone.head_VD is backbone.language_model.get_input_embeddings().weight


def test_without_a_head_a_model_is_dense(make_model: MakeModel, tmp_path: Path) -> None:
    """And stays so when it is saved; what reads a head says that there is none."""
    make_model().model.save_pretrained(tmp_path / "one")
    for name, after in (("one", "two"), ("two", "three")):
        backbone = Backbone.load(tmp_path / name)
        torch.testing.assert_close(states(backbone, TEXT), states(Backbone(make_model()), TEXT))
        assert DenseEncoder(backbone, "tokens").shape == (32,)
        assert backbone.vocabulary == 97
        with pytest.raises(UserError, match=f"{name} was saved without its language-model"):
            assert SparseEncoder(backbone, 0.0).shape
        with pytest.raises(UserError, match="MNTP and paradigm=sparse read"):
            mntp_loss(backbone, torch.tensor([TEXT]), torch.tensor([TEXT]))
        backbone.save(tmp_path / after)


def test_probes_leave_random_numbers_alone(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    Backbone.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_code_of_ones_own_and_quantised_weights_are_refused(
    make_model: MakeModel, tmp_path: Path
) -> None:
    make_model().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    told = path.read_text()
    quantised = '"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true},'
    path.write_text(told.replace("{", "{" + quantised, 1))
    with pytest.raises(UserError, match=r"is quantised \(bitsandbytes\).*that it was made from"):
        Backbone.load(tmp_path)
    path.write_text(
        told.replace('"llama"', '"mine"').replace("{", '{"auto_map": {"AutoConfig": "m.C"},', 1)
    )
    with pytest.raises(UserError, match="custom code"):
        Backbone.load(tmp_path)
