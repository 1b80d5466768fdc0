"""Whether a decoder is what we take it for: bidirectional, its logits a product with its head.

Shapes: L tokens, D hidden dimensions, V vocabulary entries.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from lion_sweep.errors import UserError

ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")


class States(MoeModelOutputWithPast):
    """What a decoder returns, of any architecture: all but the states is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def unreadable(config: PretrainedConfig) -> str:
    """Why MNTP and sparse vectors cannot read the head's weight alone; empty where they can."""
    try:
        if _is_a_product(config):
            return ""
    except RuntimeError:  # something on the way has weights of its own, and here they are not
        pass
    name, kind = config._name_or_path, config.model_type
    return (
        f"{name} of type {kind!r}: its logits are not its head's weight "
        "times the last hidden states alone (a bias, a scale, a cap or a layer comes on top), and "
        "MNTP and paradigm=sparse read no more than that: take another backbone, or paradigm=dense "
        "with recipe.adapt.steps=0."
    )


def _is_a_product(config: PretrainedConfig) -> bool:
    """Asked of the model's own forward pass, for random states, without loading weights."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        decoder, head = getattr(model, model.base_model_prefix), model.get_output_embeddings()
        few = nn.Linear(head.in_features, 3, bias=head.bias is not None)
        state_1LD = 9 * torch.randn(1, 2, head.in_features)  # large, as caps bend little else
        model.set_output_embeddings(few)
        decoder.forward = lambda *_, **__: States(last_hidden_state=state_1LD)
        logits_1LV = model(input_ids=torch.zeros(1, 2, dtype=torch.long)).logits
        expected_1LV = F.linear(state_1LD, few.weight)
        return torch.allclose(logits_1LV, expected_1LV, rtol=1e-4, atol=1e-4)


def check_attention(model: PreTrainedModel, states: Any, *, causal: bool) -> None:
    """Raises `UserError` unless every token sees its whole text, and no padding.

    Of a `causal` decoder, itself and what is before it. `states(ids, mask)` are hidden states.
    Which token sees which is read off the gradients of the first one's state, and of the last one's
    where it looks back, that are exactly 0 where it sees nothing, however small the others are.
    """
    kind, layers = model.config.model_type, getattr(model.config, "layer_types", None) or ()
    strange = sorted(set(layers) - set(ATTENTION))
    embedded: list[torch.Tensor] = []

    def remember(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    hook = model.get_input_embeddings().register_forward_hook(remember)
    try:
        with torch.enable_grad():
            for padding, place in ((0, 0), (1, 1), *(((0, 3), (1, 3)) if causal else ())):
                mask_1L = torch.tensor([[0] * padding + [1] * (4 - padding)])
                state_D = states(torch.arange(4)[None], mask_1L)[0, place]
                towards_D = torch.linspace(0.5, 1.5, len(state_D))  # a norm may fix their sum
                along = (state_D.float() * towards_D).sum()
                (slope_1LD,) = torch.autograd.grad(along, embedded[-1])
                expected_L = mask_1L[0] * (torch.arange(4) <= place) if causal else mask_1L[0]
                if not torch.equal(slope_1LD[0].ne(0).any(dim=1).long(), expected_L):
                    strange.append("it sees later tokens" if causal else "causal attention")
    except Exception as error:
        strange.append(f"{type(error).__name__}: {str(error).splitlines()[0][:150]}")
    finally:
        hook.remove()
    if strange:
        wanted = "be read causally" if causal else "be made bidirectional"
        raise UserError(
            f"{model.config._name_or_path} of type {kind!r} cannot {wanted} ({strange[0]}): "
            "choose a decoder of another type, such as llama, qwen3 or mistral."
        )


def check_pooling(encoder: Any) -> None:
    """Raises `UserError` unless padding, on either side, leaves an encoder's vectors as they are.

    Asked with made-up states, as the decoder's own are known to be right: of a text the same tokens
    have to be pooled where it stands alone, and to the left and to the right of padding. Vectors
    whose number depends on the padding are their encoder's own to check.
    """
    backbone, ids_L = encoder.backbone, torch.arange(1, 7)
    width, device = backbone.embeddings_VD.shape[1], backbone.embeddings_VD.device
    # Large, as thresholds are, and in fp32, as tiles of kernels are tuned for what comes first.
    state_LD = 30 * torch.sin((ids_L[:, None] * torch.arange(1, width + 1)).float())
    vectors = []
    for left, right in ((0, 0), (2, 0), (0, 2)):
        made_BLD = F.pad(state_LD, (0, 0, left, right), value=1e3)[None].to(device)
        mask_BL = F.pad(torch.ones_like(ids_L), (left, right))[None].to(device)
        ids_BL = F.pad(ids_L, (left, right))[None].to(device)
        backbone.hidden_states = lambda *_, made_BLD=made_BLD: made_BLD
        try:
            with torch.no_grad():
                vectors.append(encoder(ids_BL, mask_BL).float())
        finally:
            del backbone.hidden_states
    alone, *padded = vectors
    room = 0.05 * alone.abs().max()
    if any(one.shape == alone.shape and (one - alone).abs().max() > room for one in padded):
        raise UserError(
            f"{type(encoder).__name__} pools padding, or counts it: its vector of a text depends "
            "on how long the others of a batch are, or on the side that they are padded on. Pool "
            "by the mask, as lion_sweep.models.dense does."
        )
