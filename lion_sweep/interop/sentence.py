"""Models of sentence-transformers as encoders: their own modules, fed from our token cache.

Shapes: B texts, L tokens, D dimensions.
"""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lion_sweep.config import TextForm
from lion_sweep.data.teacher import prompts_of
from lion_sweep.data.whole import whole
from lion_sweep.errors import UserError
from lion_sweep.files import read_json
from lion_sweep.models import encoders
from lion_sweep.models.sparse_head import csr_of

OLDEST = 6  # earlier ones keep neither lengths of queries nor units of tokens
COSINE = "cosine"
SETTINGS = "config_sentence_transformers.json"
PARADIGMS = {"SentenceTransformer": "dense", "SparseEncoder": "sparse"}


class SentenceEncoder(encoders.Encoder):
    """The whole pipeline of a SentenceTransformer or SparseEncoder, from token ids on."""

    backbone: Any

    def __init__(self, name: str) -> None:
        self.model = self.backbone = load(name, "cuda" if torch.cuda.is_available() else "cpu")
        self.is_sparse = PARADIGMS[type(self.model).__name__] == "sparse"
        self.is_cosine = self.model.similarity_fn_name == COSINE
        # Encoding asks our backbones for it.
        self.backbone.language_model = SimpleNamespace(config=self.model[0].auto_model.config)

    @property
    def shape(self) -> tuple[int]:
        """Length of a vector."""
        return (int(self.model.get_embedding_dimension()),)

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Vectors, [B, D], in fp32, whose dot products are the scores of the library."""
        features = {"input_ids": ids_BL, "attention_mask": mask_BL.long()}
        vectors = self.model(features)["sentence_embedding"]
        vectors = (vectors.to_dense() if vectors.is_sparse else vectors).float()
        return F.normalize(vectors, dim=-1) if self.is_cosine else vectors

    def rows(self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None) -> Any:
        """The same vectors; of a SparseEncoder as CSR, of each the `largest` weights, if given."""
        vectors_BV = self(ids_BL, mask_BL)
        if not self.is_sparse:
            return vectors_BV.cpu().numpy()
        return csr_of(vectors_BV, largest)


def describe(name: str) -> tuple[str, str, TextForm]:
    """(where its tokenizer is, its paradigm, its prompts as a form of texts).

    Raises `UserError` where `load` does, and for models whose vectors or scores are not ours.
    """
    model = load(name, "cpu")
    first, score = model[0], model.similarity_fn_name
    if not hasattr(first, "auto_model"):
        kind = type(first).__name__
        raise UserError(
            f"{name} begins with {kind}, which does not read token ids with a mask: only models "
            "that begin with a Transformer can be scored."
        )
    if score not in (COSINE, "dot"):
        raise UserError(
            f"{name} scores by {score} (similarity_fn_name), and engines here search dot products "
            "and cosines: choose a model that was trained with one of these."
        )
    prompts = prompts_of(model.prompts)
    if any(prompts.values()) and not all(getattr(m, "include_prompt", True) for m in model):
        raise UserError(
            f"{name} leaves its prompts out of its pooling (include_prompt), which cannot be done "
            "from token ids: score it with sentence-transformers."
        )
    # The library loads it, but does not say what was missing.
    listed = read_json(Path(library().util.load_file_path(name, "modules.json")))
    whole(type(first.auto_model), name, subfolder=listed[0]["path"])
    text = TextForm(query_prompt=prompts["queries"], passage_prompt=prompts["passages"])
    return model.tokenizer.name_or_path, PARADIGMS[type(model).__name__], text


def library() -> Any:
    """sentence-transformers. Raises `UserError` where it is missing or too old."""
    with contextlib.suppress(ImportError):
        import sentence_transformers

        if int(sentence_transformers.__version__.split(".")[0]) >= OLDEST:
            return sentence_transformers
    raise UserError(
        f"This takes sentence-transformers >= {OLDEST}: pip install 'lion-sweep[sentence]'."
    )


def load(name: str, device: str) -> Any:
    """The model, of the class that its own file names: a SentenceTransformer where it names none.

    Raises `UserError` where the library is missing, or where the model makes no vector of a text.
    """
    classes = library()
    path = classes.util.load_file_path(name, SETTINGS)
    told = read_json(Path(path)) if path else {}
    kind = str(told.get("model_type", "SentenceTransformer"))
    if kind not in PARADIGMS:
        raise UserError(f"{name} is a {kind}, which makes no single vector of a text.")
    try:
        return getattr(classes, kind)(name, device=device)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{name} cannot be read by sentence-transformers: {reason}") from None
