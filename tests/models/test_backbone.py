"""The backbone sees both sides of every token, whatever the padding; adapters round-trip.

Shapes: B texts, L tokens, D hidden dimensions.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from lion_sweep.config import Lora
from lion_sweep.models.backbone import Backbone

MakeModel = Callable[..., LlamaForCausalLM]
TEXT = [5, 17, 3, 42, 61]
LORA = Lora(rank=3, alpha=6, dropout=0.0, targets=["q_proj", "v_proj", "down_proj"])


def states(backbone: Backbone, text: list[int], left: int = 0, right: int = 0) -> Tensor:
    """States of the real tokens of `text`, padded with arbitrary tokens on both sides."""
    ids_BL = torch.tensor([[9] * left + text + [7] * right])
    mask_BL = torch.tensor([[0] * left + [1] * len(text) + [0] * right])
    with torch.no_grad():
        return backbone.hidden_states(ids_BL, mask_BL)[0, left : left + len(text)]


def with_random_adapter(model: LlamaForCausalLM) -> Backbone:
    """Adapters that change something: LoRA starts as the identity."""
    adapted = Backbone(model).with_lora(LORA)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.trainable().values():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return Backbone(adapted.model.eval())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 3), (3, 0)])
def test_the_first_token_sees_the_last(
    make_model: MakeModel, attention: str, left: int, right: int
) -> None:
    backbone = Backbone(make_model(attn_implementation=attention))
    before = states(backbone, TEXT, left, right)[0]
    after = states(backbone, [*TEXT[:-1], 88], left, right)[0]
    assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("left", "right"), [(0, 3), (4, 0), (2, 1)])
def test_padding_changes_no_state(
    make_model: MakeModel, attention: str, left: int, right: int
) -> None:
    backbone = Backbone(make_model(attn_implementation=attention))
    padded = states(backbone, TEXT, left, right)
    torch.testing.assert_close(padded, states(backbone, TEXT), atol=1e-5, rtol=0)


def test_lora_trains_adapters_only(make_model: MakeModel) -> None:
    plain = states(Backbone(make_model()), TEXT)
    adapted = Backbone(make_model()).with_lora(LORA)
    names = adapted.trainable()
    # Two matrices for each of three projections in each of two layers.
    assert len(names) == 12
    assert all("lora_" in name for name in names)
    for target in LORA.targets:
        assert sum(target in name for name in names) == 4
    torch.testing.assert_close(states(adapted, TEXT), plain, atol=1e-6, rtol=0)


def test_adapters_start_from_their_seed(make_model: MakeModel) -> None:
    """And from nothing else: the ranks of a cell have generators in different states."""
    started = []
    for state, seed in ((1, 3), (2, 3), (1, 4)):
        backbone = Backbone(make_model())
        torch.manual_seed(state)
        expected = torch.rand(3, generator=torch.Generator().manual_seed(state))
        started.append(backbone.with_lora(LORA, seed).trainable())
        assert torch.equal(torch.rand(3), expected)
    one, same, other = started
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if "lora_A" in name)


def test_without_lora_everything_trains(backbone: Backbone) -> None:
    assert set(backbone.trainable()) == {name for name, _ in backbone.model.named_parameters()}


def test_a_saved_adapter_gives_the_same_states_and_trains_on(
    make_model: MakeModel, tmp_path: Path
) -> None:
    adapted = with_random_adapter(make_model())
    adapted.save(tmp_path)
    again = Backbone(make_model()).with_adapter(tmp_path)
    again.eval()
    assert set(again.trainable()) == set(adapted.trainable())
    expected = states(adapted, TEXT)
    torch.testing.assert_close(states(again, TEXT), expected, atol=1e-6, rtol=0)
    assert (expected - states(Backbone(make_model()), TEXT)).abs().max() > 1e-2


def test_merging_keeps_the_function(make_model: MakeModel) -> None:
    adapted = with_random_adapter(make_model())
    expected = states(adapted, TEXT)
    merged = adapted.merged()
    assert not any("lora" in name for name, _ in merged.model.named_parameters())
    torch.testing.assert_close(states(merged, TEXT), expected, atol=1e-5, rtol=0)


def test_merging_without_adapters_is_nothing(backbone: Backbone) -> None:
    assert backbone.merged() is backbone


def test_load_makes_a_causal_model_bidirectional(make_model: MakeModel, tmp_path: Path) -> None:
    make_model(is_causal=True).save_pretrained(tmp_path)
    loaded = Backbone.load(tmp_path)
    loaded.eval()
    expected = states(Backbone(make_model(is_causal=False)), TEXT, right=2)
    torch.testing.assert_close(states(loaded, TEXT, right=2), expected, atol=1e-6, rtol=0)


def test_save_and_load_of_a_whole_model(backbone: Backbone, tmp_path: Path) -> None:
    backbone.save(tmp_path)
    loaded = Backbone.load(tmp_path, dtype=torch.float64)
    assert loaded.head_VD.dtype == torch.float64
    torch.testing.assert_close(
        states(loaded, TEXT).float(), states(backbone, TEXT), atol=1e-5, rtol=0
    )


def test_head_is_found_below_adapters(make_model: MakeModel) -> None:
    model = make_model()
    adapted = Backbone(model).with_lora(LORA)
    assert adapted.head_VD is model.lm_head.weight
    assert adapted.language_model is model
