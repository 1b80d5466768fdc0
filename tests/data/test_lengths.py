"""Vectorised counts of padded lengths against the micro-batches that training cuts.

Shapes: K parts, T texts of a part.
"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lion_sweep.data.batches import micro_batches
from lion_sweep.data.lengths import padded_counts


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
    assert padded_counts(length_KT, tokens, 50).tolist() == expected.tolist()
