"""From a budget to steps, against a count by hand.

Shapes: P training pairs, N texts.
"""

import itertools

import numpy as np
import pytest

from lion_sweep.config import Budget, BudgetKind, Lora
from lion_sweep.cost.ledger import DecoderShape, executed_flops, sequence_flops
from lion_sweep.cost.meter import Meter
from lion_sweep.data.batches import Sampler
from lion_sweep.data.groups import Groups
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.errors import UserError
from lion_sweep.training.fit import plan

SHAPE = DecoderShape(8, 12, 2, 4, 2, 2, 30)
LORA = Lora(rank=2, alpha=4, dropout=0.0, targets=["q_proj"])
rng = np.random.default_rng(5)
QUERY_LENGTH_N = rng.integers(1, 20, 11)
PASSAGE_LENGTH_N = rng.integers(1, 60, 40)


def sampler() -> Sampler:
    generator = np.random.default_rng(6)
    return Sampler(
        Groups(
            query_P=np.arange(11, dtype=np.int32),
            positive_P=np.arange(11, dtype=np.int32),
            negative_PM=generator.integers(11, 40, (11, 5)).astype(np.int32),
            positive_score_P=np.zeros(11, dtype=np.float32),
            negative_score_PM=np.zeros((11, 5), dtype=np.float32),
        ),
        batch_size=3,
        negatives=2,
        seed=9,
    )


def by_hand(number: int, sparse: bool, lora: Lora | None) -> tuple[int, int]:
    """(FLOPs, tokens) of one step, text by text."""
    step = sampler().step(number)
    lengths = [int(QUERY_LENGTH_N[row]) for row in step.query_B]
    lengths += [int(PASSAGE_LENGTH_N[row]) for own in step.passage_BG for row in own]
    assert len(lengths) == 3 + 9
    flops = [
        int(sequence_flops(SHAPE, np.array([length]), sparse=sparse, lora=lora)[0])
        for length in lengths
    ]
    return sum(flops), sum(lengths)


def counts(tokens: int = 60, parts: int = 1) -> LengthCounts:
    """Micro-batches of at most so many padded tokens."""
    return LengthCounts(
        sampler(), QUERY_LENGTH_N, PASSAGE_LENGTH_N, micro_batch_tokens=tokens, parts=parts
    )


def meter(sparse: bool, lora: Lora | None, cached: bool = False) -> Meter:
    return Meter.of_training(SHAPE, counts().longest, sparse=sparse, lora=lora, cached=cached)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("lora", [None, LORA])
def test_the_first_step_that_reaches_the_budget_is_the_last(
    sparse: bool, lora: Lora | None
) -> None:
    steps = [by_hand(number, sparse, lora) for number in range(12)]
    spent = list(itertools.accumulate(flops for flops, _ in steps))
    tokens = list(itertools.accumulate(count for _, count in steps))
    assert len({flops for flops, _ in steps}) > 6  # steps differ, so that order matters
    exactly = [flops + more for flops in spent[:-1] for more in (-1, 0, 1)][1:]
    for flops in [*exactly, *np.linspace(spent[0], spent[10], 60)]:
        last = next(place for place in range(12) if spent[place] >= flops)
        budget = Budget(BudgetKind.flops, flops=float(flops))
        found = plan(budget, counts(), meter(sparse, lora))
        assert (found.steps, found.useful_flops, found.tokens) == (
            last + 1,
            spent[last],
            tokens[last],
        )


def test_less_than_one_step_is_refused() -> None:
    first, _ = by_hand(0, True, None)
    exactly = plan(Budget(BudgetKind.flops, flops=first), counts(), meter(True, None))
    assert exactly.steps == 1
    with pytest.raises(UserError, match=r"budget\.flops="):
        plan(Budget(BudgetKind.flops, flops=first - 1), counts(), meter(True, None))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_number_of_steps(count: int) -> None:
    steps = [by_hand(number, False, LORA) for number in range(count)]
    found = plan(Budget(BudgetKind.steps, steps=count), counts(), meter(False, LORA))
    assert (found.steps, found.useful_flops, found.tokens) == (
        count,
        sum(flops for flops, _ in steps),
        sum(tokens for _, tokens in steps),
    )


@pytest.mark.parametrize(("parts", "tokens"), [(1, 60), (3, 60), (3, 1000)])
@pytest.mark.parametrize("cached", [False, True])
def test_hardware_flops_are_those_of_every_padded_micro_batch(
    parts: int, tokens: int, cached: bool
) -> None:
    price = meter(True, LORA, cached)
    expected = 0
    for number in range(5):
        step = sampler().step(number)
        for own in np.split(np.arange(3), parts):
            lengths = [int(QUERY_LENGTH_N[step.query_B[row]]) for row in own]
            lengths += [int(PASSAGE_LENGTH_N[passage]) for passage in step.passage_BG[own].ravel()]
            lengths.sort(reverse=True)
            while lengths:
                rows = min(len(lengths), max(1, tokens // lengths[0]))
                (flops,) = executed_flops(
                    SHAPE,
                    np.array(lengths[:1]),
                    sparse=True,
                    lora=LORA,
                    cached=cached,
                )
                expected += rows * int(flops)
                del lengths[:rows]
    found = plan(Budget(BudgetKind.steps, steps=5), counts(tokens, parts), price)
    assert found.hardware_flops == expected


def test_more_than_64_bits_are_counted_exactly() -> None:
    price = meter(False, None)
    price = Meter(np.full_like(price.useful_L, 2**62), price.hardware_L)
    found = plan(Budget(BudgetKind.steps, steps=5), counts(), price)
    assert found.useful_flops == 5 * 12 * 2**62


def test_parts_that_do_not_divide_a_step_are_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.batch_size=3 does not divide into 2 parts"):
        counts(parts=2)


@pytest.mark.parametrize(("epochs", "steps"), [(2.0, 6), (0.5, 2), (0.01, 1)])
def test_a_number_of_epochs(epochs: float, steps: int) -> None:
    """11 pairs in steps of 3: an epoch has 3 whole steps."""
    budget = Budget(BudgetKind.epochs, epochs=epochs)
    assert plan(budget, counts(), meter(False, LORA)).steps == steps


def test_more_costly_steps_mean_fewer_of_them() -> None:
    flops = 40 * by_hand(0, True, None)[0]
    budget = Budget(BudgetKind.flops, flops=flops)
    dense, sparse = (plan(budget, counts(), meter(kind, None)) for kind in (False, True))
    assert sparse.steps < dense.steps
    assert sparse.useful_flops == pytest.approx(dense.useful_flops, rel=0.05)
