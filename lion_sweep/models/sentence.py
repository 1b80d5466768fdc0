"""Models of sentence-transformers as encoders: their own modules, fed from our token cache.

Shapes: B texts, L tokens, D dimensions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lion_sweep.errors import UserError


@dataclass(frozen=True)
class Described:
    """Where the model's tokenizer is, and what its vectors are."""

    tokenizer: str
    paradigm: str


class _Backbone(nn.Module):
    """The part of our backbones that encoding asks for."""

    def __init__(self, model: nn.Module, config: Any) -> None:
        super().__init__()
        self.model, self.config = model, config

    @property
    def language_model(self) -> "_Backbone":
        """What has a `config`."""
        return self


class SentenceEncoder:
    """The whole pipeline of a SentenceTransformer or SparseEncoder, from token ids on."""

    def __init__(self, name: str) -> None:
        self.model = _open(name)
        transformer = self.model[0]
        self.backbone = _Backbone(self.model, transformer.auto_model.config)

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.model.get_sentence_embedding_dimension())

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, D], in fp32."""
        features = {"input_ids": ids_BL, "attention_mask": mask_BL.long()}
        vectors: Tensor = self.model(features)["sentence_embedding"]
        return (vectors.to_dense() if vectors.is_sparse else vectors).float()


def describe(name: str) -> Described:
    """What can be told of the model. Raises `UserError` where the library is missing."""
    model = _open(name)
    sparse = type(model).__name__ == "SparseEncoder"
    return Described(model.tokenizer.name_or_path, "sparse" if sparse else "dense")


def _open(name: str) -> Any:
    try:
        import sentence_transformers
    except ImportError:
        raise UserError(
            f"{name} is a model of sentence-transformers: pip install 'lion-sweep[sentence]'."
        ) from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return sentence_transformers.SentenceTransformer(name, device=device)
