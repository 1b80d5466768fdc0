"""Vectorised counts of lengths against the steps and micro-batches of training.

Shapes: P training pairs, M mined negatives, K parts, T texts of a part, L a length.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lion_sweep.cost.meter import padded_counts
from lion_sweep.data.batches import Sampler, micro_batches
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.data.lengths import LengthCounts


@settings(deadline=None)  # the first call compiles
@given(
    st.integers(1, 20).flatmap(
        lambda texts: st.lists(
            st.lists(st.integers(1, 50), min_size=texts, max_size=texts), min_size=1, max_size=5
        )
    ),
    st.integers(1, 200),
)
def test_padded_counts_are_those_of_micro_batches(parts: list[list[int]], tokens: int) -> None:
    length_KT = np.array(parts)
    expected = np.zeros((len(parts), 51), dtype=int)
    for row, length_T in enumerate(length_KT):
        for batch in micro_batches(length_T, tokens):
            expected[row, length_T[batch].max()] += len(batch)
    real_KL = np.array([np.bincount(length_T, minlength=51) for length_T in parts])
    assert padded_counts(real_KL, tokens).tolist() == expected.tolist()


def test_a_block_counts_the_texts_of_its_steps() -> None:
    """Pairs with few and with many negatives, passages in any order."""
    rng, pairs, mined = np.random.default_rng(0), 37, 6
    negative_PM = rng.integers(0, 90, (pairs, mined), dtype=np.int32)
    for row in range(pairs):
        negative_PM[row, 1 + row % mined :] = MISSING
    none = np.zeros((pairs, mined), dtype=np.float32)
    groups = Groups(
        rng.permutation(40)[:pairs].astype(np.int32),
        rng.integers(0, 90, pairs, dtype=np.int32),
        negative_PM,
        none[:, 0],
        none,
    )
    lengths = rng.integers(1, 12, 40), rng.integers(1, 60, 90)
    sampler = Sampler(groups, 4, 3, seed=5)
    counts = LengthCounts(sampler, *lengths, micro_batch_tokens=100, parts=2)
    for block in (0, 2):
        real_SL, padded_SL = counts.block(block)
        assert len(real_SL) == sampler.steps_per_block
        for place in range(0, sampler.steps_per_block, 1001):
            step = sampler.step(block * sampler.steps_per_block + place)
            expected = [lengths[0][row] for row in step.query_B]
            expected += [lengths[1][row] for row in step.passage_BG.ravel()]
            assert real_SL[place].tolist() == np.bincount(expected, minlength=60).tolist()
            padded_L = np.zeros(60, dtype=int)
            for part in step.split(2):
                length_N = counts.lengths(part)
                for rows in micro_batches(length_N, 100):
                    padded_L[length_N[rows].max()] += len(rows)
            assert padded_SL[place].tolist() == padded_L.tolist()
