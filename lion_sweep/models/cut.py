"""The first layers of a pretrained decoder, as a decoder of its own.

What comes out of them goes through the final norm and the head of the whole, which were trained on
what comes out of its last layer: adaptation and training start from that.
"""

from pathlib import Path

from transformers import AutoModelForCausalLM, PretrainedConfig

from lion_sweep.data.pretrained import config_of, tokenizer_of
from lion_sweep.errors import UserError


def cut(source: str, revision: str | None, layers: int, folder: Path) -> str:
    """Write the first `layers` layers of `source`, its embeddings, final norm, head and tokenizer
    to `folder`, in the precision that they have; returns how many of how many layers these are.

    Raises `UserError` for more layers than it has.
    """
    config = config_of(source, revision)
    there = config.num_hidden_layers
    if not 1 <= layers <= there:
        raise UserError(
            f"model.cut.layers={layers}, and {source} has {there} layers: keep 1 to {there}."
        )
    model = AutoModelForCausalLM.from_pretrained(
        source,
        revision=revision,
        config=_shortened(config, layers),
        dtype="auto",
        trust_remote_code=False,
    )
    model.save_pretrained(folder)
    tokenizer_of(source, revision).save_pretrained(folder)
    return f"{layers} of {there} layers"


def _shortened(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    told = config.to_dict() | {"num_hidden_layers": layers}
    if kinds := told.get("layer_types"):  # some decoders say of each layer how it attends
        told["layer_types"] = kinds[:layers]
    return type(config).from_dict(told)
