"""Both encoders against a loop over unpadded texts.

Shapes: B texts, L tokens, D hidden dimensions, V vocabulary entries.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lion_sweep.config.recipe import Normalize
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.sparse import SparseEncoder

TEXTS = [[5, 17, 3, 42, 61], [8], [33, 2, 90]]


def padded(length: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """TEXTS in one batch; padding holds an arbitrary token."""
    ids_BL = torch.full((len(TEXTS), length), 11)
    mask_BL = torch.zeros_like(ids_BL)
    for row, text in enumerate(TEXTS):
        place = slice(length - len(text), None) if left else slice(len(text))
        ids_BL[row, place] = torch.tensor(text)
        mask_BL[row, place] = 1
    return ids_BL, mask_BL


def unpadded(backbone: Backbone) -> list[tuple[np.ndarray, np.ndarray]]:
    """(states, logits) of every text alone, from the model itself."""
    found = []
    with torch.no_grad():
        for text in TEXTS:
            ids = torch.tensor([text])
            state = backbone.model.model(input_ids=ids).last_hidden_state[0]
            logits = backbone.model(input_ids=ids).logits[0]
            found.append((state.double().numpy(), logits.double().numpy()))
    return found


def expected_dense(backbone: Backbone, normalize: str) -> np.ndarray:
    rows = []
    for state_LD, _ in unpadded(backbone):
        if normalize == "tokens":
            total = sum(state / np.sqrt((state**2).sum()) for state in state_LD)
            rows.append(total / len(state_LD))
        else:
            mean = sum(state_LD) / len(state_LD)
            rows.append(mean / np.sqrt((mean**2).sum()))
    return np.array(rows)


def expected_sparse(backbone: Backbone, threshold: float) -> np.ndarray:
    scale = 32**-0.25
    return np.array(
        [
            np.log1p(np.maximum(scale * logits_LV.max(axis=0) - threshold, 0))
            for _, logits_LV in unpadded(backbone)
        ]
    )


def encode(encoder: Any, length: int, left: bool = False) -> np.ndarray:
    with torch.no_grad():
        vectors = encoder(*padded(length, left))
    assert vectors.dtype == torch.float32
    assert vectors.shape == (len(TEXTS), encoder.shape[0])
    return vectors.numpy()


@pytest.mark.parametrize(("length", "left"), [(5, False), (9, False), (9, True)])
@pytest.mark.parametrize("normalize", ["tokens", "mean"])
def test_dense_pooling(backbone: Backbone, normalize: str, length: int, left: bool) -> None:
    found = encode(DenseEncoder(backbone, normalize), length, left)
    np.testing.assert_allclose(found, expected_dense(backbone, normalize), atol=1e-5)


def test_dense_norms(backbone: Backbone) -> None:
    unit = np.linalg.norm(encode(DenseEncoder(backbone, Normalize.mean), 5), axis=1)
    np.testing.assert_allclose(unit, 1, atol=1e-5)
    shorter = np.linalg.norm(encode(DenseEncoder(backbone, Normalize.tokens), 5), axis=1)
    assert (shorter[[0, 2]] < 0.99).all()  # several tokens; the text of one token stays at 1
    assert shorter[1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("length", "left"), [(5, False), (9, False), (9, True)])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_sparse_formula(backbone: Backbone, threshold: float, length: int, left: bool) -> None:
    found = encode(SparseEncoder(backbone, threshold), length, left)
    expected = expected_sparse(backbone, threshold)
    assert 0 < (expected > 0).mean() < 1  # active and inactive entries are both compared
    np.testing.assert_allclose(found, expected, atol=1e-5)
