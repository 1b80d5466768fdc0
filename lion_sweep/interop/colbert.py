"""Checkpoints of ColBERTv2, as its authors save them: a BERT, a projection, how texts are read.

Weights are bert.* and linear.weight; artifact.metadata beside them says the markers, the lengths
and what becomes of punctuation (Santhanam et al., NAACL 2022, and their repository).

Shapes: B texts, L tokens (padded on the right), D hidden dimensions, P dimensions of a vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertModel

from lion_sweep.config.paradigm import TokensOf
from lion_sweep.data.whole import whole
from lion_sweep.errors import UserError
from lion_sweep.files import read_json
from lion_sweep.models.multi_vector import MultiVectorEncoder

SETTINGS, PROJECTION = "artifact.metadata", "linear.weight"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in the order that transformers reads them
PARADIGM, TARGET = "multi-vector", "lion_sweep.models.multi_vector.MultiVectorEncoder"


@dataclass(frozen=True)
class Settings:
    """What a checkpoint says of itself."""

    dimension: int
    lengths: tuple[int, int]  # tokens of a query and of a passage
    tokens: TokensOf

    @classmethod
    def of(cls, name: str) -> "Settings":
        """Raises `UserError` where its scores are not MaxSim of cosines as here."""
        told = read_json(file(name, SETTINGS))
        if told.get("similarity", "cosine") != "cosine" or told.get("attend_to_mask_tokens"):
            raise UserError(
                f"{name}: its {SETTINGS} says similarity={told.get('similarity')} and "
                f"attend_to_mask_tokens={told.get('attend_to_mask_tokens')}, and only cosines can "
                "be scored, with mask tokens that no token sees: choose a checkpoint of that form."
            )
        try:
            markers = told["query_token_id"], told["doc_token_id"]
            lengths = int(told["query_maxlen"]), int(told["doc_maxlen"])
            tokens = TokensOf(
                *markers, fill_queries=True, skip_punctuation=told["mask_punctuation"]
            )
            return cls(int(told["dim"]), lengths, tokens)
        except KeyError as error:
            raise UserError(f"{name}: its {SETTINGS} lacks {error}: copy the whole file.") from None

    @property
    def told(self) -> dict[str, Any]:
        """The keys of the configuration that it settles."""
        encoder = {"_target_": TARGET, "dimension": self.dimension, "seed": 0}
        return {"paradigm.tokens": self.tokens, "paradigm.encoder": encoder}


class Bert(nn.Module):
    """A BERT with what a multi-vector encoder asks of a decoder."""

    def __init__(self, name: str) -> None:
        """Raises `UserError` where a weight is missing."""
        super().__init__()
        self.model = whole(BertModel, name, add_pooling_layer=False)
        self.language_model = SimpleNamespace(config=self.model.config)
        self.projection = nn.Parameter(_projection(name))

    def hidden_states(
        self, ids_BL: Tensor, mask_BL: Tensor, seen_BL: Tensor | None = None
    ) -> Tensor:
        """Last hidden states, [B, L, D]; `seen_BL`: which tokens others see."""
        seen_BL = mask_BL if seen_BL is None else seen_BL
        found: Tensor = self.model(input_ids=ids_BL, attention_mask=seen_BL).last_hidden_state
        return found

    def add(self, name: str, make: Callable[[], Tensor]) -> nn.Parameter:
        """Its own projection, [P, D]."""
        return self.projection


def load(name: str) -> MultiVectorEncoder:
    """The encoder with its weights, in fp32."""
    settings, backbone = Settings.of(name), Bert(name)
    made = MultiVectorEncoder(backbone, settings.dimension, 0)  # type: ignore[arg-type]
    if made.shape != (settings.dimension,):
        raise UserError(
            f"{name}: {PROJECTION} makes {made.shape[0]} dimensions, and {SETTINGS} says "
            f"dim={settings.dimension}: correct the file."
        )
    return made


def file(name: str, called: str) -> Path:
    """A file of a folder, or of a repository of the Hub."""
    folder = Path(name).expanduser()
    return folder / called if folder.is_dir() else Path(hf_hub_download(name, called))


def _projection(name: str) -> Tensor:
    for called in WEIGHTS:
        try:
            path = file(name, called)
        except Exception:  # no such file there, or no network: the other one may be here
            continue
        if path.is_file():
            safe = path.suffix == ".safetensors"
            found = load_file(path) if safe else torch.load(path, "cpu", weights_only=True)
            if PROJECTION in found:
                return found[PROJECTION].float()
    raise UserError(f"{name} has no weight {PROJECTION}, which projects its tokens: copy it whole.")
