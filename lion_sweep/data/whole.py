"""Models that are read with all their weights, or not at all.

transformers fills what a file lacks with random numbers, and leaves aside what it does not know.
"""

import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from lion_sweep.errors import UserError
from lion_sweep.files import read_json

IN_A_LAYER = re.compile(r"\b(layers?|h|blocks)\.\d+\..*\.(weight|bias)$")

NAMES = ("model.safetensors", "pytorch_model.bin")  # in the order that transformers looks for them
COPY = "copy the whole model there, or give another one."


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


def check_weights(folder: Path) -> None:
    """Raises `UserError` where a file of weights is missing or cut off, by what their heads say."""
    for path, keys in _files(folder).items():
        if not path.is_file():
            raise UserError(f"{path} is missing, which the index beside it names: {COPY}")
        if path.suffix != ".safetensors":
            continue
        try:
            with safe_open(path, "np") as file:
                lost = sorted(keys - set(file.keys()))
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read ({error}): {COPY}") from None
        if lost:
            raise UserError(f"{path} lacks {_count(lost)}, which the index names: {COPY}")


def _files(folder: Path) -> dict[Path, set[str]]:
    """The files that transformers would read, and the weights that an index says are in each."""
    for name in NAMES:
        if (folder / name).is_file():
            return {folder / name: set()}
        index = folder / f"{name}.index.json"
        if index.is_file():
            held: dict[Path, set[str]] = {}
            try:
                for key, file in read_json(index)["weight_map"].items():
                    if Path(file).name != file:
                        raise ValueError(f"{file!r} is no name of a file beside it")
                    held.setdefault(folder / file, set()).add(key)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise UserError(f"{index} cannot be read ({error!r}): {COPY}") from None
            return held
    raise UserError(f"{folder} holds no weights, such as {NAMES[0]}: {COPY}")


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
