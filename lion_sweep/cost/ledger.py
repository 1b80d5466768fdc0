"""FLOPs of a decoder on texts of given lengths, in closed form.

A multiply-add is 2 FLOPs. Norms, rotary embeddings, softmax, activations, the embedding look-up,
scores and the optimiser are not counted. Two ledgers, never mixed: `sequence_flops` is the useful
work (real tokens, nothing computed twice), which budgets are made of; `executed_flops` is what the
hardware does for it (padding, recomputation). Attention counts whole, also of a decoder that looks
back only, and the sparse head for every token that is read, pooled or not. Its backward pass is the
argmax one, one product per vocabulary entry and text, charged at its most: every entry active.
"""

import re
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PretrainedConfig

from lion_sweep.config import Lora
from lion_sweep.errors import UserError

# Modules that read the state of every token.
OF_A_TOKEN = re.compile(r"embeddings|\b(layers?|h|blocks|albert_layer_groups)\.\d+\.")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class DecoderShape:
    """What the FLOPs of a decoder depend on."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    matrices: int = 0  # weights of all layers' matrices, where they are not Llama's seven
    projection: int = 0  # outputs of a linear layer that an encoder trains on the last states

    @classmethod
    def of(cls, config: PretrainedConfig) -> "DecoderShape":
        """Read from a transformers configuration; UserError where it is no such decoder."""
        try:
            heads = config.num_attention_heads
            shape = cls(
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                layers=config.num_hidden_layers,
                heads=heads,
                key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
                head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
                vocabulary=config.vocab_size,
            )
        except AttributeError as error:
            raise UserError(
                f"model.backbone of type {config.model_type!r} has no known shape ({error}): "
                "choose a Llama-like decoder."
            ) from None
        if config.model_type == "llama":
            return shape
        counted = _matrices(config)
        return shape if counted == shape.linear_parameters else replace(shape, matrices=counted)

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of the seven linear projections of a layer."""
        width, query = self.hidden_size, self.heads * self.head_dim
        key_value = self.key_value_heads * self.head_dim
        return {
            "q_proj": (width, query),
            "k_proj": (width, key_value),
            "v_proj": (width, key_value),
            "o_proj": (query, width),
            "gate_proj": (width, self.intermediate_size),
            "up_proj": (width, self.intermediate_size),
            "down_proj": (self.intermediate_size, width),
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of all projections; embeddings and head excluded."""
        seven = sum(inputs * outputs for inputs, outputs in self.projections.values())
        return self.matrices or self.layers * seven

    @property
    def head_parameters(self) -> int:
        """Weights of the language-model head."""
        return self.hidden_size * self.vocabulary

    @property
    def projection_parameters(self) -> int:
        """Weights of an encoder's own linear layer."""
        return self.hidden_size * self.projection

    def lora_parameters(self, lora: Lora) -> int:
        """Weights of its adapters. Raises `UserError` for some in matrices that are not Llama's."""
        strange = [name for name in lora.targets if self.matrices and name not in ATTENTION]
        if strange:
            raise UserError(
                f"recipe.lora.targets has {strange[0]}, and model.backbone has other matrices than "
                f"Llama: say recipe.lora.targets=[{','.join(ATTENTION)}], or recipe.lora=null."
            )
        return self.layers * lora.rank * sum(sum(self.projections[name]) for name in lora.targets)


def _matrices(config: PretrainedConfig) -> int:
    """Weights of all that a token's state is multiplied with, the head left out; none are loaded.

    Raises `UserError` where a token takes some of them only.
    """
    from transformers import AutoModel  # seconds, which stand-ins need not wait

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = AutoModel.from_config(deepcopy(config), trust_remote_code=False)
    inner = (module for module in model.modules() if not isinstance(module, nn.Embedding))
    weights = [weight for module in inner for weight in module.parameters(recurse=False)]
    if any(weight.dim() > 2 for weight in weights):
        raise UserError(
            f"model.backbone of type {config.model_type!r} has experts or convolutions, whose "
            "FLOPs are not counted: choose a dense decoder, such as llama, qwen3 or mistral."
        )
    return sum(weight.numel() for weight in weights if weight.dim() == 2)


def sequence_flops(
    shape: DecoderShape,
    lengths_N: NDArray[np.integer],
    *,
    sparse: bool,
    lora: Lora | None,
    backward: bool = True,
) -> NDArray[np.int64]:
    """Useful FLOPs of one forward (and backward) pass of every text, [N].

    `lengths_N` are real tokens. With `lora` the base is frozen: gradients reach its inputs only.
    Without, every weight trains. An encoder's own projection always does.
    """
    length_N = np.asarray(lengths_N, dtype=np.int64)
    linear_N = 2 * shape.linear_parameters * length_N
    attention_N = 4 * shape.layers * shape.heads * shape.head_dim * length_N**2
    adapters_N = 2 * (shape.lora_parameters(lora) if lora else 0) * length_N
    head_N = 2 * shape.head_parameters * (length_N if sparse else np.zeros_like(length_N))
    projection_N = 2 * shape.projection_parameters * length_N
    total_N = linear_N + attention_N + adapters_N + head_N + projection_N
    if backward:
        gradients = 1 if lora else 2  # of inputs, and of weights
        total_N += gradients * (linear_N + 2 * shape.head_parameters * sparse)
        total_N += 2 * attention_N + 2 * adapters_N + 2 * projection_N
    return total_N


def executed_flops(
    shape: DecoderShape,
    padded_N: NDArray[np.integer],
    *,
    sparse: bool,
    lora: Lora | None,
    cached: bool = False,
) -> NDArray[np.int64]:
    """Hardware FLOPs of the forward and backward pass of every text, [N], as PyTorch runs them.

    `padded_N` are the lengths that texts are padded to. Against `sequence_flops` of those lengths:
    frozen embeddings ask for no gradient, so what lies below the first adapter is not
    differentiated; with cached gradients the whole forward pass runs twice.
    """
    length_N = np.asarray(padded_N, dtype=np.int64)
    total_N = sequence_flops(shape, length_N, sparse=sparse, lora=lora)
    if cached:
        total_N += sequence_flops(shape, length_N, sparse=sparse, lora=lora, backward=False)
    return total_N - (_below_first_adapter(shape, length_N, lora) if lora else 0)


def teacher_flops(config: PretrainedConfig, lengths_N: NDArray[np.integer]) -> NDArray[np.int64]:
    """FLOPs of a teacher's forward pass on every text, [N]: BERT-like encoders, or decoders.

    What stands above the layers is left out: see `classifier_flops`.
    """
    if hasattr(config, "num_key_value_heads"):
        shape = DecoderShape.of(config)
        return sequence_flops(shape, lengths_N, sparse=False, lora=None, backward=False)
    try:
        layers, width = config.num_hidden_layers, config.hidden_size
        weights = 4 * width**2 + 2 * width * config.intermediate_size
    except AttributeError as error:
        raise UserError(
            f"the teacher's encoder of type {config.model_type!r} has no known shape ({error}): "
            "choose a BERT-like encoder, or teacher=bm25."
        ) from None
    length_N = np.asarray(lengths_N, dtype=np.int64)
    return layers * (2 * weights * length_N + 4 * width * length_N**2)


def classifier_flops(config: PretrainedConfig) -> int:
    """FLOPs of what a sequence classifier has above its layers, once per text; none are loaded.

    That is a pooling layer, a head, or both, each of which reads one state.
    """
    from transformers import AutoModelForSequenceClassification  # seconds, as above

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(
            deepcopy(config), trust_remote_code=False
        )
    above = (m for name, m in model.named_modules() if not OF_A_TOKEN.search(name))
    return sum(2 * m.weight.numel() for m in above if isinstance(m, nn.Linear))


def _below_first_adapter(
    shape: DecoderShape, length_N: NDArray[np.int64], lora: Lora
) -> NDArray[np.int64]:
    """FLOPs of the first layer's gradients that lead to nothing that trains."""
    trains = set(lora.targets).__contains__
    query, key, value = trains("q_proj"), trains("k_proj"), trains("v_proj")
    attention = query or key or value
    stream = attention or trains("o_proj")
    inner = stream or trains("gate_proj") or trains("up_proj")
    reached = {"o_proj": attention, "gate_proj": stream, "up_proj": stream, "down_proj": inner}
    saved_N = np.zeros_like(length_N)
    for name, (inputs, outputs) in shape.projections.items():
        if not reached.get(name, False):
            adapter = lora.rank * inputs if trains(name) else 0
            saved_N += 2 * (inputs * outputs + adapter) * length_N
    # Backward of attention: gradients of values, scores, queries, keys, a product each.
    products = 4 - (value + (query or key) + query + key)
    return saved_N + products * 2 * shape.heads * shape.head_dim * length_N**2
