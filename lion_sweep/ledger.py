"""FLOPs of a decoder on texts of given lengths, in closed form.

A multiply-add is 2 FLOPs. Norms, rotary embeddings, softmax, activations and the embedding look-up
are not counted. Counted are real tokens only: no padding, no recomputation, no optimiser. The
sparse head's backward pass is the argmax one, charged at its most: every vocabulary entry active.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

from lion_sweep.config import Lora
from lion_sweep.errors import UserError


@dataclass(frozen=True)
class DecoderShape:
    """What the FLOPs of a Llama-like decoder depend on."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> "DecoderShape":
        """Read from a transformers configuration; UserError where it is no such decoder."""
        try:
            heads = config.num_attention_heads
            return cls(
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
        return self.layers * sum(inputs * outputs for inputs, outputs in self.projections.values())

    @property
    def head_parameters(self) -> int:
        """Weights of the language-model head."""
        return self.hidden_size * self.vocabulary

    def lora_parameters(self, rank: int, targets: Sequence[str]) -> int:
        """Weights of adapters of `rank` on the named projections."""
        return self.layers * rank * sum(sum(self.projections[target]) for target in targets)


def sequence_flops(
    shape: DecoderShape,
    lengths_N: NDArray[np.integer],
    *,
    sparse: bool,
    lora: Lora | None,
    backward: bool = True,
) -> NDArray[np.int64]:
    """FLOPs of one forward (and backward) pass of every text, [N].

    `lengths_N` are real tokens. With `lora` the base is frozen: gradients reach its inputs only.
    Without, every weight trains.
    """
    length_N = np.asarray(lengths_N, dtype=np.int64)
    linear_N = 2 * shape.linear_parameters * length_N
    attention_N = 4 * shape.layers * shape.heads * shape.head_dim * length_N**2
    adapters = shape.lora_parameters(lora.rank, lora.targets) if lora else 0
    adapters_N = 2 * adapters * length_N
    head = 2 * shape.head_parameters if sparse else 0
    total_N = linear_N + attention_N + adapters_N + head * length_N
    if backward:
        weight_gradients = 0 if lora else 1
        total_N += (1 + weight_gradients) * (linear_N + head) + 2 * attention_N + 2 * adapters_N
    return total_N
