"""Models that are read with all their weights, or not at all.

transformers fills what a file lacks with random numbers, and leaves aside what it does not know.
"""

import re
from typing import Any

from safetensors import SafetensorError
from torch import nn

from lion_sweep.errors import UserError

IN_A_LAYER = re.compile(r"\b(layers?|h|blocks)\.\d+\..*\.(weight|bias)$")


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
