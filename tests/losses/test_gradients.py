"""Values and gradients of every loss, against sums written out by hand in float64.

Nothing of autograd is used on the hand's side: its gradients are central differences.

Shapes: B queries of this device, Q of all, G passages of a query, C candidates, D dimensions.
"""

from collections.abc import Callable
from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch

from lion_sweep.errors import UserError
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.flops import FlopsRegulariser
from lion_sweep.losses.listwise_kl import ListwiseKL
from lion_sweep.losses.margin_mse import MarginMSE
from lion_sweep.losses.representations import Representations

QUERIES, GROUP, DIMENSIONS, TEMPERATURE, STEP = 4, 3, 5, 0.7, 1e-6
# In query 1 a negative is scored above the positive, in query 2 one just below it.
TEACHER = [[2.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.3, -2.0, 0.1], [0.9, 0.0, 0.2]]

Vectors = np.ndarray  # [Q + Q * G, D]: the queries, then their passages, those of a query together


def scores(vectors: Vectors) -> list[list[list[float]]]:
    """Of every query against every passage, by query and passage of a query."""
    queries, passages = vectors[:QUERIES], vectors[QUERIES:].reshape(QUERIES, GROUP, -1)
    return [[[float(q @ p) / TEMPERATURE for p in group] for group in passages] for q in queries]


def infonce(vectors: Vectors, pool: int = QUERIES, margin: float | None = None) -> float:
    """-log of the positive's share among the passages of `pool` queries beside each other."""
    total = 0.0
    for query, groups in enumerate(scores(vectors)):
        first = query // pool * pool
        among = 0.0
        for owner in range(first, first + pool):
            for place, score in enumerate(groups[owner]):
                false = margin is not None and TEACHER[query][place] > TEACHER[query][0] - margin
                if not (false and owner == query and place > 0):
                    among += exp(score)
        total -= log(exp(groups[query][0]) / among)
    return total / QUERIES


def margin_mse(vectors: Vectors) -> float:
    total = 0.0
    for query, groups in enumerate(scores(vectors)):
        ours, theirs = groups[query], TEACHER[query]
        for place in range(1, GROUP):
            total += ((ours[0] - ours[place]) - (theirs[0] - theirs[place])) ** 2
    return total / (QUERIES * (GROUP - 1))


def kl(vectors: Vectors, student: float, teacher: float) -> float:
    total = 0.0
    for query, groups in enumerate(scores(vectors)):
        ours = [exp(score / student) for score in groups[query]]
        theirs = [exp(score / teacher) for score in TEACHER[query]]
        for one, other in zip(ours, theirs, strict=True):
            target = other / sum(theirs)
            total += target * (log(target) - log(one / sum(ours)))
    return total / QUERIES


def penalty(rows: list[np.ndarray]) -> float:
    """Squared mean activations, summed."""
    return sum(float(np.mean([abs(row[d]) for row in rows])) ** 2 for d in range(DIMENSIONS))


def flops(vectors: Vectors, pool: int, apart: bool) -> float:
    """0.3 of the queries' and 0.2 of the passages' penalty, each a mean over pools and sides."""
    queries, passages = vectors[:QUERIES], vectors[QUERIES:].reshape(QUERIES, GROUP, -1)
    found: dict[str, list[float]] = {"query": [], "passage": []}
    for first in range(0, QUERIES, pool):
        own = range(first, first + pool)
        found["query"].append(penalty([queries[q] for q in own]))
        sides = [range(1), range(1, GROUP)] if apart else [range(GROUP)]
        found["passage"] += [penalty([passages[q][g] for q in own for g in side]) for side in sides]
    return 0.3 * float(np.mean(found["query"])) + 0.2 * float(np.mean(found["passage"]))


def regulariser(**settings: Any) -> Callable[[Representations], torch.Tensor]:
    made = FlopsRegulariser(0.3, 0.2, 0.5, **settings)
    return lambda step: torch.stack(list(made(step, 1.0).values())).sum()


CASES: dict[str, tuple[Any, Callable[[Vectors], float], int]] = {
    "infonce": (Contrastive(1.0), infonce, 1),
    "pools": (Contrastive(1.0, candidates=2 * GROUP), lambda v: infonce(v, pool=2), 1),
    "own": (Contrastive(1.0, candidates=GROUP), lambda v: infonce(v, pool=1), 1),
    "false negatives": (
        Contrastive(1.0, false_negative_margin=0.4), lambda v: infonce(v, margin=0.4), 1
    ),
    "false negatives in pools": (
        Contrastive(1.0, 2 * GROUP, 4, -0.5), lambda v: infonce(v, pool=2, margin=-0.5), 4
    ),
    "gathered": (Contrastive(1.0, devices=4), infonce, 4),
    "gathered by two": (Contrastive(1.0, devices=2), infonce, 2),
    "margin mse": (MarginMSE(1.0), margin_mse, 1),
    "kl": (ListwiseKL(1.0), lambda v: kl(v, 1, 1), 1),
    "kl, temperatures": (ListwiseKL(1.0, 10.0, 2.5), lambda v: kl(v, 10, 2.5), 1),
    "flops": (regulariser(), lambda v: flops(v, QUERIES, apart=False), 1),
    "flops, pools": (regulariser(pool=2), lambda v: flops(v, 2, apart=False), 1),
    "flops, apart": (regulariser(apart=True), lambda v: flops(v, QUERIES, apart=True), 1),
    "flops, all": (
        regulariser(pool=1, apart=True, devices=4), lambda v: flops(v, 1, apart=True), 4
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str) -> None:
    loss, by_hand, devices = CASES[name]
    vectors = np.random.default_rng(0).uniform(0.1, 1, (QUERIES * (1 + GROUP), DIMENSIONS))
    tensor = torch.from_numpy(vectors).requires_grad_()
    passages = tensor[QUERIES:]
    found = loss(
        Representations(
            query_BD=tensor[:QUERIES],
            passage_BGD=passages.unflatten(0, (QUERIES, GROUP)),
            all_query_QD=tensor[:QUERIES],
            candidate_CD=passages,
            offset=0,
            temperature=TEMPERATURE,
            teacher_BG=torch.tensor(TEACHER, dtype=torch.float64),
        )
    )
    assert found.item() == pytest.approx(by_hand(vectors), rel=1e-12)
    found.backward()
    expected = np.zeros_like(vectors)
    for place in np.ndindex(*vectors.shape):
        moved = [vectors.copy(), vectors.copy()]
        moved[0][place] += STEP
        moved[1][place] -= STEP
        expected[place] = (by_hand(moved[0]) - by_hand(moved[1])) / (2 * STEP)
    assert tensor.grad is not None
    np.testing.assert_allclose(tensor.grad, expected / devices, rtol=1e-6, atol=1e-8)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize(
    ("progress", "micro_batches", "rise"),
    [(0.05, 4, 0.36), (1 / 12, 4, 1), (0.05, 2, 0.09), (1 / 6, 2, 1), (0.3, 1, 0.81)],
)
def test_a_ramp_that_goes_on_with_micro_batches_ends_sooner(
    progress: float, micro_batches: int, rise: float
) -> None:
    """After a third of the steps; with 2 or 4 micro-batches in each, after 1/6 or 1/12."""
    vectors = torch.rand(2, 3, dtype=torch.float64)
    step = Representations(vectors, vectors[:, None], vectors, vectors, 0, 1.0)
    terms = FlopsRegulariser(1.0, 1.0, 1 / 3, micro_batches=micro_batches)(step, progress)
    whole = FlopsRegulariser(1.0, 1.0, 0.0)(step, progress)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {name: rise * value.item() for name, value in whole.items()}, rel=1e-9
    )


@pytest.mark.parametrize("settings", [{"student_temperature": 0.0}, {"teacher_temperature": -1.0}])
def test_a_temperature_is_above_0(settings: dict[str, float]) -> None:
    (key,) = settings
    with pytest.raises(UserError, match=f"{key}={settings[key]} must be greater than 0"):
        ListwiseKL(1.0, **settings)
