"""L1, and the controller of L0, against hand-written float64; a training brought to its target.

Shapes: B queries, C passages, D vocabulary entries.
"""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from lion_sweep.errors import UserError
from lion_sweep.losses.flops import FlopsRegulariser
from lion_sweep.losses.l0 import L0Controller
from lion_sweep.losses.l1 import L1Regulariser
from lion_sweep.losses.representations import Representations

SETTINGS = {"headroom": 1.25, "approach": 0.5, "rate": 30.0, "gain": 1.0, "most": 50.0}
AT_ONCE = {"headroom": 1.25, "approach": 0.0, "rate": 90.0, "gain": 2.0, "most": 20.0}
TARGETS = {"queries": 3.0, "passages": 12.0}


def step(query_BD: Tensor, passage_CD: Tensor) -> Representations:
    group = len(passage_CD) // len(query_BD)
    own = passage_CD.unflatten(0, (len(query_BD), group))
    return Representations(query_BD, own, query_BD, passage_CD, 0, 1.0)


def drawn(number: int, queries: int = 4, passages: int = 8) -> tuple[Tensor, Tensor]:
    """Vectors of a step, thinner with every one."""
    rng = np.random.default_rng(number)

    def vectors(rows: int, share: float) -> Tensor:
        full = rng.random((rows, 40)) * (rng.random((rows, 40)) < share)
        return torch.tensor(full, requires_grad=True)

    return vectors(queries, 0.5 / (1 + number)), vectors(passages, 0.9 / (1 + 0.2 * number))


def test_l1_values_and_gradients() -> None:
    query_BD, passage_CD = drawn(0)
    terms = L1Regulariser(0.3, 0.2, 0.5)(step(query_BD, passage_CD), 0.25)
    rise = (0.25 / 0.5) ** 2
    assert terms.keys() == {"l1_query", "l1_passage"}
    for name, weight, vectors in (("query", 0.3, query_BD), ("passage", 0.2, passage_CD)):
        plain = vectors.detach().numpy()
        expected = rise * weight * sum(abs(plain).sum(axis=1)) / len(plain)
        assert terms[f"l1_{name}"].item() == pytest.approx(expected, rel=1e-12)
        (gradient,) = torch.autograd.grad(terms[f"l1_{name}"], vectors)
        slope = rise * weight * np.sign(plain) / len(plain)
        np.testing.assert_allclose(gradient, slope, rtol=1e-12)


def by_hand(
    counts: list[float], target: float, steps: int, settings: dict[str, float]
) -> Iterator[float]:
    """The multiplier at every step."""
    before, pressure, approach = 0.0, 0.0, settings["approach"]
    for number, l0 in enumerate(counts):
        left = max(0.0, 1 - number / steps / approach) if approach else 0.0
        aim = math.log1p(settings["headroom"] * target)
        wanted = aim + left * (math.log1p(counts[0]) - aim)
        error = math.log1p(l0) - wanted
        if number:
            pressure += settings["rate"] / steps * error + settings["gain"] * (error - before)
            largest = math.log(settings["most"])
            pressure = max(-largest, min(largest, pressure))
        before = error
        yield math.exp(pressure)


@pytest.mark.parametrize("settings", [SETTINGS, AT_ONCE], ids=["falling", "at once"])
def test_multipliers_and_gradients(settings: dict[str, float]) -> None:
    steps = 8
    found = L0Controller(FlopsRegulariser(0.3, 0.2, 0.5), TARGETS, **settings)
    vectors = [drawn(number) for number in range(steps)]
    expected = [
        list(by_hand([float(one[side].count_nonzero(dim=1).double().mean()) for one in vectors],
                     target, steps, settings))
        for side, target in enumerate(TARGETS.values())
    ]  # fmt: skip
    assert min(expected[0]) == pytest.approx(1 / settings["most"])  # the bound is reached
    assert max(expected[1]) > 10  # and passages have too many terms
    if settings is AT_ONCE:
        assert max(expected[1]) == pytest.approx(settings["most"])
    for number, both in enumerate(vectors):
        terms = found(step(*both), number / steps)
        sides = zip(("query", "passage"), (0.3, 0.2), both, expected, strict=True)
        for name, weight, one, multipliers in sides:
            # Whole weights: the ramp is the target's.
            factor, plain = weight * multipliers[number], one.detach().numpy()
            value = factor * (abs(plain).mean(axis=0) ** 2).sum()
            assert terms[f"flops_{name}"].item() == pytest.approx(value, rel=1e-9)
            (gradient,) = torch.autograd.grad(terms[f"flops_{name}"], one)
            slope = factor * 2 * abs(plain).mean(axis=0) * np.sign(plain) / len(plain)
            np.testing.assert_allclose(gradient, slope, rtol=1e-9)


def test_it_goes_on_to_the_bit_from_what_it_told() -> None:
    def made() -> L0Controller:
        return L0Controller(L1Regulariser(0.3, 0.2, 0.5), TARGETS, **SETTINGS)

    whole, first, then = made(), made(), made()
    told = [whole(step(*drawn(number)), number / 6) for number in range(6)]
    for number in range(3):
        first(step(*drawn(number)), number / 6)
    then.load(first.state())
    for number in range(3, 6):
        again = then(step(*drawn(number)), number / 6)
        assert all(torch.equal(value, told[number][name]) for name, value in again.items())
    assert then.state() == whole.state()


def test_a_term_of_neither_side_stays_as_it_is() -> None:
    def other(step: Representations, progress: float) -> dict[str, Tensor]:
        return {"other": torch.tensor(progress)}

    found = L0Controller(other, TARGETS, **SETTINGS)
    assert [found(step(*drawn(n)), n / 3)["other"] for n in range(3)] == [1.0] * 3


@pytest.mark.parametrize("name", ["headroom", "most", "rate", "gain", "approach"])
def test_settings_at_their_edge(name: str) -> None:
    least = {"headroom": 1, "most": 1}.get(name, 0)
    L0Controller.check("loss.l0", SETTINGS | {name: least})
    with pytest.raises(UserError, match=rf"loss\.l0\.{name}="):
        L0Controller.check("loss.l0", SETTINGS | {name: least - 0.001})
    with pytest.raises(UserError, match=r"loss\.l0\.approach="):
        L0Controller.check("loss.l0", SETTINGS | {"approach": 1.001})


def test_which_side_a_term_is_of_is_the_end_of_its_name() -> None:
    """A name may have more words than one before it."""

    def two(step: Representations, progress: float) -> dict[str, Tensor]:
        return {"my_own_query": torch.tensor(1.0), "query_of_none": torch.tensor(1.0)}

    found = L0Controller(two, TARGETS, **SETTINGS)
    told = [found(step(*drawn(number)), number / 8) for number in range(3)]
    assert [terms["query_of_none"] for terms in told] == [1.0] * 3
    assert told[2]["my_own_query"] == pytest.approx(math.exp(found.state()["pressure_queries"]))
    assert told[2]["my_own_query"] != 1.0 and told[2]["my_own_query"].dtype == torch.float32
