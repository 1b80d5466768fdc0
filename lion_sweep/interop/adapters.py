"""PEFT adapters of other origin on our backbones, the study's Lion-SP and Lion-DS among them.

Adapters name the layers they belong to from the outermost module on, so the same layer has other
names below a decoder with a head, one without, or a wrapper of somebody's own. What follows
`layers.` is the same everywhere.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import PeftConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

from lion_sweep.errors import UserError
from lion_sweep.models.backbone import Backbone

# What names have before layers.0.self_attn.q_proj.lora_A.weight.
AROUND = re.compile(r"^(.*?\.)?(?=layers\.\d+\.)")


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{what} cannot be read: {str(error).splitlines()[0]}") from None


def settings(name: str) -> PeftConfig:
    """What the adapter's own file says. Raises `UserError` where it cannot be read."""
    with _reading(f"{name}: its adapter_config.json"):
        return PeftConfig.from_pretrained(str(Path(name).expanduser()))


def load(backbone: Backbone, name: str) -> Backbone:
    """The backbone with the adapter of a folder or Hugging Face id in it.

    Raises `UserError` where a weight of the adapter has no place in the backbone, or the reverse.
    """
    asked = settings(name)
    asked.auto_mapping = asked.task_type = None  # of the class it was trained under, not ours
    asked.inference_mode = True
    model = get_peft_model(backbone.language_model, asked)
    assert isinstance(model, PeftModel)
    with _reading(f"{name}: its weights"):
        read = load_peft_weights(str(Path(name).expanduser()), device="cpu")
    weights = {AROUND.sub("", key): weight for key, weight in read.items()}
    ours = {AROUND.sub("", key): key for key in get_peft_model_state_dict(model)}
    if weights.keys() != ours.keys():
        unknown = sorted(weights.keys() - ours.keys())
        missing = sorted(ours.keys() - weights.keys())
        raise UserError(
            f"{name} does not fit its base: {len(unknown)} of its weights have no place there "
            f"({', '.join(unknown[:2]) or 'none'}), {len(missing)} places get none "
            f"({', '.join(missing[:2]) or 'none'}). Is base= the model that it was trained on?"
        )
    try:
        set_peft_model_state_dict(model, {ours[key]: weight for key, weight in weights.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{name} does not fit its base: {reason}") from None
    return Backbone(model)
