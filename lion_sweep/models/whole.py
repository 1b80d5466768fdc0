"""Whether a model is what its caller takes it for: whole, bidirectional, its logits a product.

transformers fills what a file lacks with random numbers, and leaves aside what it does not know.

Shapes: L tokens, D hidden dimensions, V vocabulary entries.
"""

import re
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from lion_sweep.errors import UserError

IN_A_LAYER = re.compile(r"\b(layers?|h|blocks)\.\d+\..*\.(weight|bias)$")
ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")


class States(MoeModelOutputWithPast):
    """What a decoder returns, of any architecture: all but the states is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def whole(auto: Any, source: str, **settings: Any) -> Any:
    """What `auto.from_pretrained` makes of `source`, every weight of it read.

    A head that is not there is taken out instead of being random, and a pooler, which nobody here
    reads, may be missing. Raises `UserError` for everything else that is, for layers that the model
    has no room for, and where nothing can be read.
    """
    try:
        model, told = auto.from_pretrained(
            source, output_loading_info=True, trust_remote_code=False, **settings
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{source}: its weights cannot be read: {reason}") from None
    missing, unexpected = set(told["missing_keys"]), sorted(told["unexpected_keys"])
    head, names = model.get_output_embeddings(), dict(model.named_modules())
    own = {f"{name}.{key}" for name, m in names.items() if m is head for key in m.state_dict()}
    lost = sorted(key for key in missing - own if not key.startswith("pooler."))
    stray = [key for key in unexpected if IN_A_LAYER.search(key)]
    if lost or stray:
        kind, lost = type(model).__name__, sorted(missing) if lost else []
        raise UserError(
            f"{source} is no whole {kind}: {_count(lost)} that it needs are missing and would be "
            f"random, {_count(stray)} in the file have no place. {_cause(lost, unexpected)}"
        )
    if missing & own:
        model.set_output_embeddings(nn.Identity())
    return model


def _count(keys: list[str]) -> str:
    shown = f" ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else ""
    return f"{len(keys)} weights{shown}"


def _cause(lost: list[str], unexpected: list[str]) -> str:
    """What to do, by a prefix that names of the file have and the model's have not."""
    for key in unexpected:
        if lost and key.endswith(lost[0]):
            return (
                f"Names in the file begin with {key.removesuffix(lost[0])!r}, as a wrapped or "
                "compiled module writes them: save the module that is wrapped."
            )
    return "Save the model again, with all its weights and the config.json that they are of."


def check_head(config: PretrainedConfig) -> None:
    """Raises `UserError` unless logits are the head's weight times the last states, and no more.

    MNTP and sparse vectors read the weight alone.
    """
    try:
        plain = _is_a_product(config)
    except RuntimeError:  # something on the way has weights of its own, and here they are not
        plain = False
    if not plain:
        raise UserError(
            f"{config._name_or_path} of type {config.model_type!r}: its logits are not its head's "
            "weight times the last hidden states alone (a bias, a scale, a cap or a layer comes on "
            "top), and MNTP and paradigm=sparse read no more than that: take another backbone, or "
            "paradigm=dense with recipe.adapt.steps=0."
        )


def _is_a_product(config: PretrainedConfig) -> bool:
    """Asked of the model's own forward pass, for random states and without loading any weights."""
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


def check_attention(model: PreTrainedModel, states: Any) -> None:
    """Raises `UserError` unless every token sees every other and no padding.

    `states(ids, mask)` are hidden states. Which token sees which is read off the gradients of the
    first one's state, that are exactly 0 where it sees nothing, however small the others are.
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
            for padding in (0, 1):
                mask_1L = torch.tensor([[0] * padding + [1] * (4 - padding)])
                state_D = states(torch.arange(4)[None], mask_1L)[0, padding]
                towards_D = torch.linspace(0.5, 1.5, len(state_D))  # a norm may fix their sum
                along = (state_D.float() * towards_D).sum()
                (slope_1LD,) = torch.autograd.grad(along, embedded[-1])
                if not torch.equal(slope_1LD[0].ne(0).any(dim=1).long(), mask_1L[0]):
                    strange.append("causal attention")
    except Exception as error:
        strange.append(f"{type(error).__name__}: {str(error).splitlines()[0][:150]}")
    finally:
        hook.remove()
    if strange:
        raise UserError(
            f"{model.config._name_or_path} of type {kind!r} cannot be made bidirectional "
            f"({strange[0]}): choose a decoder of another type, such as llama, qwen3 or mistral."
        )
