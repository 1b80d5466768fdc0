"""Vectors of tokens, and MaxSim with its gradients, against loops in float64.

Shapes: B queries, I vectors of a query, C passages, J vectors of a passage, P dimensions.
"""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from lion_sweep.config import Lora
from lion_sweep.data.marks import SILENT, UNSEEN
from lion_sweep.models import multi_vector
from lion_sweep.models.backbone import ADDED, Backbone
from lion_sweep.models.multi_vector import MultiVectorEncoder
from lion_sweep.training.embedding import Embedding

P, SEED = 6, 3
# Of the second text one vector is left out, of the third the last two tokens are seen by none.
TEXTS = [[5, 17, 3, 42, 61], [8, 9 | SILENT], [33, 2, 90, 1 | UNSEEN, 1 | UNSEEN]]
LORA = Lora(rank=4, alpha=8, dropout=0.0, targets=["q_proj", "v_proj"])


def padded(length: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """TEXTS in one batch; padding holds an arbitrary token."""
    ids_BL = torch.full((len(TEXTS), length), 11)
    mask_BL = torch.zeros_like(ids_BL)
    for row, text in enumerate(TEXTS):
        place = slice(length - len(text), None) if left else slice(len(text))
        ids_BL[row, place] = torch.tensor(text)
        mask_BL[row, place] = 1
    return ids_BL, mask_BL


def expected_vectors(backbone: Backbone, weight_PD: np.ndarray) -> list[np.ndarray]:
    """Of every text alone, from the model itself under an attention mask that is written out."""
    found = []
    for text in TEXTS:
        seen = torch.tensor([not token & UNSEEN for token in text])
        mask_11LL = torch.where(seen, 0.0, -torch.inf).expand(1, 1, len(text), len(text))
        ids_1L = torch.tensor([[token % SILENT for token in text]])
        with torch.no_grad():
            states = backbone.model.model(input_ids=ids_1L, attention_mask=mask_11LL)
        rows = states.last_hidden_state[0].double().numpy() @ weight_PD.T
        rows /= np.sqrt((rows**2).sum(axis=1, keepdims=True))
        found.append(rows[[not token & SILENT for token in text]])
    return found


@pytest.mark.parametrize(("length", "left"), [(5, False), (8, False), (8, True)])
def test_vectors_of_tokens(backbone: Backbone, length: int, left: bool) -> None:
    encoder = MultiVectorEncoder(backbone, P, SEED)
    weight_PD = encoder.projection_PD.detach().double().numpy()
    np.testing.assert_allclose(weight_PD @ weight_PD.T, np.eye(P), atol=1e-6)
    expected = expected_vectors(backbone, weight_PD)
    with torch.no_grad():
        vector_BLP, rows = encoder(*padded(length, left)), encoder.rows(*padded(length, left))
    assert vector_BLP.shape == (3, length, P) and vector_BLP.dtype == torch.float32
    assert rows.count_M.tolist() == [5, 1, 5]
    for row, wanted in enumerate(expected):
        there = vector_BLP[row][vector_BLP[row].any(dim=-1)]
        np.testing.assert_allclose(there.numpy(), wanted, atol=1e-5)
        np.testing.assert_array_equal(rows[np.array([row])].vectors_TP, there.numpy())


def texts(counts: list[int], seed: int) -> Tensor:
    """Unit vectors in float64 of texts that have so many, of zeros where they have none."""
    vector_NLP = torch.zeros(len(counts), max(counts), P, dtype=torch.float64)
    torch.manual_seed(seed)
    for row, count in enumerate(counts):
        vector_NLP[row, :count] = torch.nn.functional.normalize(torch.randn(count, P), dim=-1)
    return vector_NLP


def max_sim(query_IP: Tensor, passage_JP: Tensor) -> Tensor:
    """The score of a pair, vector by vector."""
    total = torch.zeros((), dtype=torch.float64)
    for query_P in query_IP:
        if query_P.any():
            found = [query_P @ passage_P for passage_P in passage_JP if passage_P.any()]
            total = total + (torch.stack(found).max() if found else -1.0)
    return total


QUERIES, PASSAGES = [3, 1, 0, 4], [5, 2, 0, 1, 6, 3, 2, 4]


@pytest.mark.parametrize("similarities", [1, 2**24], ids=["in parts", "at once"])
def test_max_sim_of_all_pairs_and_its_gradients(backbone: Backbone, similarities: int) -> None:
    encoder = MultiVectorEncoder(backbone, P, SEED)
    query, passage = texts(QUERIES, 0), texts(PASSAGES, 1)
    weight_BC = torch.randn(len(QUERIES), len(PASSAGES), dtype=torch.float64)
    found_slopes, slopes = [], []
    ours = [both.clone().requires_grad_() for both in (query, passage)]
    with patch.object(multi_vector, "SIMILARITIES", similarities):
        found_BC = encoder.all_scores_BC(*ours)
        (found_BC * weight_BC).sum().backward()
    found_slopes = [one.grad for one in ours]
    theirs = [both.clone().requires_grad_() for both in (query, passage)]
    rows = [torch.stack([max_sim(q, p) for p in theirs[1]]) for q in theirs[0]]
    (torch.stack(rows) * weight_BC).sum().backward()
    slopes = [one.grad for one in theirs]
    torch.testing.assert_close(found_BC, torch.stack(rows), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found_slopes, slopes, rtol=1e-12, atol=1e-12)


def test_max_sim_of_own_passages_and_its_gradients(backbone: Backbone) -> None:
    encoder = MultiVectorEncoder(backbone, P, SEED)
    query, passage = texts(QUERIES, 0), texts(PASSAGES, 1).unflatten(0, (4, 2))
    ours = [both.clone().requires_grad_() for both in (query, passage)]
    found_BG = encoder.group_scores_BG(*ours)
    (found_BG**2).sum().backward()
    theirs = [both.clone().requires_grad_() for both in (query, passage)]
    rows = [
        torch.stack([max_sim(q, p) for p in group])
        for q, group in zip(theirs[0], theirs[1], strict=True)
    ]
    (torch.stack(rows) ** 2).sum().backward()
    torch.testing.assert_close(found_BG, torch.stack(rows), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        [one.grad for one in ours], [one.grad for one in theirs], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "adapters"])
def test_the_projection_trains_and_is_kept_with_the_weights(
    backbone: Backbone, lora: Lora | None, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    backbone.save(base)
    assert not (base / ADDED).exists()
    start = Backbone.load(base)
    encoder = MultiVectorEncoder(start.with_lora(lora) if lora else start, P, SEED)
    assert "added.projection" in encoder.backbone.trainable()
    encoder(*padded(5)).square().sum(dim=(0, 1))[0].backward()
    assert encoder.projection_PD.grad is not None and encoder.projection_PD.grad.any()
    with torch.no_grad():
        encoder.projection_PD.add_(0.3)
        before = encoder(*padded(5))
    encoder.backbone.save(tmp_path / "trained")
    if lora:
        loaded = Backbone.load(base).with_adapter(tmp_path / "trained").merged()
    else:
        loaded = Backbone.load(tmp_path / "trained")
    again = MultiVectorEncoder(loaded, P, SEED + 1)
    with torch.no_grad():
        torch.testing.assert_close(again(*padded(5)), before, rtol=1e-5, atol=1e-6)


def test_of_cached_gradients_and_micro_batches_of_other_lengths(backbone: Backbone) -> None:
    """Vectors are padded to the longest text of a step, and gradients are those of one batch."""
    encoder, found = MultiVectorEncoder(backbone, P, SEED), []
    written = [np.array(text, dtype=np.int32) for text in TEXTS]
    for cached in (False, True):
        backbone.zero_grad()
        embedding = Embedding(encoder, written, 5, Accelerator(cpu=True), cached=cached)
        vector_NLP = embedding.vectors_ND
        assert vector_NLP.shape == (3, 5, P)
        encoder.all_scores_BC(vector_NLP[:1], vector_NLP[1:]).square().sum().backward()
        embedding.backward()
        found.append((vector_NLP.detach(), encoder.projection_PD.grad))
    with torch.no_grad():
        torch.testing.assert_close(found[0][0], encoder(*padded(5)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
