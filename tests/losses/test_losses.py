"""Every loss against numpy, and what all losses have in common.

Shapes: B queries, G passages of a query, C candidates, D dimensions.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.flops import FlopsRegulariser, flops_penalty
from lion_sweep.losses.listwise_kl import ListwiseKL
from lion_sweep.losses.margin_mse import MarginMSE
from lion_sweep.losses.representations import Representations

TEMPERATURE = 0.7


def step(
    queries: int = 3, group: int = 4, before: int = 0, after: int = 0, seed: int = 0
) -> Representations:
    """Random embeddings; `before` and `after` are passages of other devices around ours."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    query_BD, passage_BGD = draw(queries, 5), draw(queries, group, 5)
    others = [draw(before, 5), passage_BGD.flatten(0, 1), draw(after, 5)]
    return Representations(
        query_BD=query_BD,
        passage_BGD=passage_BGD,
        all_query_QD=torch.cat([query_BD, draw(2, 5)]),
        candidate_CD=torch.cat(others),
        offset=before,
        temperature=TEMPERATURE,
        teacher_BG=3 * draw(queries, group).detach(),
    )


def values(tensor: Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.detach().numpy()


def student_BG(representations: Representations) -> np.ndarray:
    queries, passages = values(representations.query_BD), values(representations.passage_BGD)
    return np.array(
        [
            [query @ passage / TEMPERATURE for passage in own]
            for query, own in zip(queries, passages, strict=True)
        ]
    )


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum()


def flops_total(representations: Representations) -> Tensor:
    terms = FlopsRegulariser(query_weight=0.3, passage_weight=0.2, ramp=0.5)(representations, 1.0)
    return torch.stack(list(terms.values())).sum()


@pytest.mark.parametrize("candidates", [4, 8, 16])
def test_a_pool_is_the_loss_of_its_queries_alone(candidates: int) -> None:
    """Two queries of another device before ours, one after: four groups of four passages."""
    whole = step(queries=1, before=8, after=4)
    found = Contrastive(1.0, candidates)(whole)
    scores_C = values(whole.query_BD)[0] @ values(whole.candidate_CD).T / TEMPERATURE
    first = 8 // candidates * candidates
    expected = -np.log(softmax(scores_C[first : first + candidates])[8 - first])
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_pools_of_a_step_are_as_many_steps() -> None:
    together = step(queries=4, group=3)
    pools = [
        Representations(
            query_BD=together.query_BD[part],
            passage_BGD=together.passage_BGD[part],
            all_query_QD=together.query_BD[part],
            candidate_CD=together.passage_BGD[part].flatten(0, 1),
            offset=0,
            temperature=TEMPERATURE,
        )
        for part in (slice(0, 2), slice(2, 4))
    ]
    apart = torch.stack([Contrastive(1.0)(pool) for pool in pools]).mean()
    torch.testing.assert_close(Contrastive(1.0, 6)(together), apart)


@pytest.mark.parametrize(
    "loss",
    [Contrastive(1.0), MarginMSE(1.0), ListwiseKL(1.0), flops_total],
    ids=["contrastive", "margin_mse", "listwise_kl", "flops"],
)
def test_a_loss_is_a_finite_scalar_with_gradients(loss: Any) -> None:
    representations = step()
    result = loss(representations)
    assert result.shape == ()
    assert torch.isfinite(result)
    assert result > 0
    result.backward()
    for leaf in (representations.query_BD, representations.passage_BGD):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()
        assert (leaf.grad != 0).any()


@pytest.mark.parametrize(
    ("loss", "teacher", "negatives"),
    [
        (Contrastive(1.0), False, False),
        (Contrastive(1.0, false_negative_margin=0.0), True, True),
        (MarginMSE(1.0), True, True),
        (ListwiseKL(1.0), True, True),
    ],
)
def test_what_a_loss_needs(loss: Any, teacher: bool, negatives: bool) -> None:
    assert (loss.needs_teacher, loss.needs_negatives) == (teacher, negatives)


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (8, 0), (4, 4)])
def test_contrastive(group: int, before: int, after: int) -> None:
    representations = step(group=group, before=before, after=after)
    candidates = values(representations.candidate_CD)
    terms = []
    for row, query in enumerate(values(representations.query_BD)):
        chances = softmax(candidates @ query / TEMPERATURE)
        own = values(representations.passage_BGD)[row, 0]
        (positive,) = np.flatnonzero((candidates == own).all(axis=1))
        terms.append(-np.log(chances[positive]))
    found = Contrastive(1.0)(representations)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-12)


def test_a_negative_just_as_good_as_the_margin_allows_is_a_candidate() -> None:
    """Teacher scores and margin are whole numbers, so that they can be equal."""
    representations = step(group=3)
    teacher_BG = torch.tensor([[8.0, 6.0, 5.0]] * len(representations.query_BD)).double()
    margin = {1.0: 3, 2.0: 3, 3.0: 2, 4.0: 1}  # with how many candidates of its own group left
    for found, own in margin.items():
        alone = replace(representations, teacher_BG=teacher_BG)
        loss = Contrastive(1.0, candidates=3, false_negative_margin=found)(alone)
        terms = []
        for query, group_GD in zip(values(alone.query_BD), values(alone.passage_BGD), strict=True):
            left = {1: [0], 2: [0, 2], 3: [0, 1, 2]}[own]
            terms.append(-np.log(softmax(group_GD[left] @ query / TEMPERATURE)[0]))
        assert loss.item() == pytest.approx(np.mean(terms), rel=1e-12), found


@pytest.mark.parametrize("group", [2, 4])
def test_margin_mse(group: int) -> None:
    representations = step(group=group)
    student, teacher = student_BG(representations), values(representations.teacher_BG)
    errors = [
        ((student[b, 0] - student[b, g]) - (teacher[b, 0] - teacher[b, g])) ** 2
        for b in range(3)
        for g in range(1, group)
    ]
    found = MarginMSE(1.0)(representations)
    assert found.item() == pytest.approx(np.mean(errors), rel=1e-12)


def test_listwise_kl() -> None:
    representations = step()
    terms = []
    for student, teacher in zip(
        student_BG(representations), values(representations.teacher_BG), strict=True
    ):
        ours, theirs = softmax(student), softmax(teacher)
        terms.append((theirs * np.log(theirs / ours)).sum())
    found = ListwiseKL(1.0)(representations)
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-12)


@pytest.mark.parametrize("loss", [MarginMSE(1.0), ListwiseKL(1.0)], ids=str)
def test_a_student_that_copies_the_teacher_loses_nothing(loss: Any) -> None:
    representations = step()
    # Shifting a query's scores changes neither its margins nor its softmax.
    shift = torch.tensor([[1.0], [-2.0], [0.5]])
    representations.teacher_BG = representations.group_scores_BG().detach() + shift
    assert loss(representations).item() == pytest.approx(0, abs=1e-12)


def test_flops_penalty() -> None:
    vectors = torch.tensor([[1.0, 0.0, -2.0], [3.0, 0.0, 2.0]])
    # mean absolute activations 2, 0, 2
    assert flops_penalty(vectors).item() == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("progress", "ramp", "rise"),
    [(0, 0.4, 0), (0.1, 0.4, 1 / 16), (0.2, 0.4, 1 / 4), (0.4, 0.4, 1), (0.9, 0.4, 1), (0, 0, 1)],
)
def test_flops_ramp(progress: float, ramp: float, rise: float) -> None:
    representations = step(before=4)
    terms = FlopsRegulariser(0.3, 0.2, ramp)(representations, progress)
    assert set(terms) == {"flops_query", "flops_passage"}
    for name, weight, vectors in (
        ("flops_query", 0.3, representations.all_query_QD),
        ("flops_passage", 0.2, representations.candidate_CD),
    ):
        penalty = (np.abs(values(vectors)).mean(axis=0) ** 2).sum()
        assert terms[name].item() == pytest.approx(rise * weight * penalty, rel=1e-12)
