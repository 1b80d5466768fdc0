"""Which tokens a vector is made of: BOS, the second copy, the last one; on both sides of padding.

Shapes: B texts, L tokens, D hidden dimensions, V vocabulary entries.
"""

from collections.abc import Callable

import plain_reference as plain
import pytest
import torch
from torch import Tensor

from lion_sweep.errors import UserError
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.encoders import Encoder
from lion_sweep.models.pooling import pooled
from lion_sweep.models.probes import check_pooling
from lion_sweep.models.sparse import SparseEncoder

BOS, EOS = 1, 2
# Given twice: with both, with the first alone, without either; and BOS alone.
TEXTS = [[BOS, 5, 7, 9, 5, 7, 9, EOS], [BOS, 17, 42, 17, 42], [8, 61, 8, 61], [BOS]]
BODIES = [[5, 7, 9, 5, 7, 9, EOS], [17, 42, 17, 42], [8, 61, 8, 61], []]  # without BOS
SECONDS = [[5, 7, 9, EOS], [17, 42], [8, 61], []]
PADDINGS = [(0, 0), (3, 0), (0, 3), (2, 1)]


def padded(left: int, right: int) -> tuple[Tensor, Tensor]:
    """TEXTS in one batch with at least so much padding, of BOS itself."""
    longest, rows, masks = max(map(len, TEXTS)), [], []
    for text in TEXTS:
        short = longest - len(text)
        before, after = (left + short, right) if left > right else (left, right + short)
        rows.append([BOS] * before + text + [BOS] * after)
        masks.append([0] * before + [1] * len(text) + [0] * after)
    return torch.tensor(rows), torch.tensor(masks)


@pytest.mark.parametrize(("left", "right"), PADDINGS)
def test_the_tokens_that_are_pooled(left: int, right: int) -> None:
    ids_BL, mask_BL = padded(left, right)

    def found(**how: bool) -> list[list[int]]:
        kept_BL = pooled(ids_BL, mask_BL, BOS, **how).bool()
        return [ids_L[kept_L].tolist() for ids_L, kept_L in zip(ids_BL, kept_BL, strict=True)]

    assert found() == TEXTS
    assert found(begin=False) == BODIES
    assert found(echo=True) == found(echo=True, begin=False) == SECONDS
    assert found(last=True) == [[EOS], [42], [61], [BOS]]
    assert found(last=True, echo=True) == [[EOS], [42], [61], []]
    no_bos = pooled(ids_BL, mask_BL, None, begin=False)
    assert torch.equal(no_bos, mask_BL)


@pytest.fixture
def causal(make_model) -> Backbone:
    """A tiny decoder that looks back only, and has a BOS."""
    return Backbone(make_model(is_causal=True, bos_token_id=BOS))


def reference(backbone: Backbone) -> tuple[list[Tensor], plain.Weights]:
    """(states of every text in float64, [L, D]; the weights, which ask for gradients)."""
    named = backbone.model.named_parameters()
    weights = {
        name.removeprefix("model."): weight.detach().double().requires_grad_()
        for name, weight in named
    }
    return plain.hidden_states(TEXTS, weights, causal=True), weights


def sparse_of(logits_LV: Tensor, scale: float) -> Tensor:
    """Of the logits of the tokens that are pooled, in float64."""
    if not len(logits_LV):
        return torch.zeros(logits_LV.shape[1], dtype=torch.float64)
    return torch.log1p(torch.relu(scale * logits_LV.max(dim=0).values - 0.1))


def unit(vector_D: Tensor) -> Tensor:
    return vector_D / vector_D.norm()


SPARSE: dict[str, tuple[dict[str, object], list[list[int]], float, str]] = {
    "all": ({}, TEXTS, 32**-0.25, "lm_head"),
    "without BOS": ({"pool_bos": False}, BODIES, 32**-0.25, "lm_head"),
    "echo, own scale": ({"echo": True, "logit_scale": 0.7}, SECONDS, 0.7, "lm_head"),
    "tied": ({"tied": True, "pool_bos": False}, BODIES, 32**-0.25, "embed_tokens"),
}


def compare(encoder: Encoder, expected_BX: Tensor, weights: plain.Weights, left: int) -> None:
    """Values and gradients of a random function of the vectors; `rows` are the vectors."""
    batch = padded(left, 3 - left)
    found_BX = encoder(*batch)
    torch.testing.assert_close(found_BX.double(), expected_BX, atol=1e-5, rtol=1e-5)
    towards_BX = torch.randn(found_BX.shape, generator=torch.Generator().manual_seed(0))
    (found_BX * towards_BX).sum().backward()
    (expected_BX * towards_BX).sum().backward()
    for name, weight in encoder.backbone.model.named_parameters():
        theirs = weights[name.removeprefix("model.")].grad
        assert (weight.grad is None) == (theirs is None), name
        if theirs is not None:
            torch.testing.assert_close(weight.grad.double(), theirs, atol=2e-5, rtol=1e-3)
    with torch.no_grad():
        rows = encoder.rows(*batch)
    rows = rows if isinstance(encoder, DenseEncoder) else rows.toarray()
    torch.testing.assert_close(torch.from_numpy(rows), found_BX.detach())


@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_vectors_and_gradients(causal: Backbone, name: str, left: int) -> None:
    settings, tokens, scale, head = SPARSE[name]
    encoder = SparseEncoder(causal, 0.1, **settings)  # type: ignore[arg-type]
    states, weights = reference(causal)
    rows = []
    for text, kept, state_LD in zip(TEXTS, tokens, states, strict=True):
        pooled_LD = state_LD[len(text) - len(kept) :]  # what is kept is the end of a text
        rows.append(sparse_of(pooled_LD @ weights[f"{head}.weight"].T, scale))
    expected_BV = torch.stack(rows)
    assert 0 < (expected_BV[:3] > 0).double().mean() < 1
    assert bool(expected_BV[3].any()) == (name == "all")  # BOS alone leaves nothing else
    compare(encoder, expected_BV, weights, left)


DENSE: dict[str, tuple[list[list[int]], Callable[[Tensor], Tensor]]] = {
    "last": ([text[-1:] for text in TEXTS], lambda state_LD: unit(state_LD[0])),
    "mean of the second copy": (SECONDS[:3], lambda state_LD: unit(state_LD.mean(dim=0))),
}


@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("name", DENSE)
def test_dense_vectors_and_gradients(causal: Backbone, name: str, left: int) -> None:
    tokens, pool = DENSE[name]
    last = name == "last"
    encoder = DenseEncoder(causal, "mean", "last" if last else "mean", echo=not last)
    states, weights = reference(causal)
    rows = [
        pool(state_LD[len(text) - len(kept) :])
        for text, kept, state_LD in zip(TEXTS, tokens, states, strict=False)
    ]
    if not last:  # nothing of BOS alone
        rows.append(torch.zeros(32, dtype=torch.float64))
    compare(encoder, torch.stack(rows), weights, left)


class Careless(DenseEncoder):
    """Takes what stands last, be it padding."""

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """[B, D]."""
        return unit(self.backbone.hidden_states(ids_BL, mask_BL)[:, -1])


def test_an_encoder_that_pools_padding_is_refused(causal: Backbone) -> None:
    before = causal.hidden_states
    for settings in ({}, {"pool_bos": False}, {"echo": True}):
        check_pooling(SparseEncoder(causal, 0.0, **settings))
    check_pooling(DenseEncoder(causal, "tokens"))
    check_pooling(DenseEncoder(causal, "mean", "last"))
    with pytest.raises(UserError, match="Careless pools padding, or counts it"):
        check_pooling(Careless(causal, "mean"))
    assert causal.hidden_states == before
