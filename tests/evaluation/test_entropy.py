"""Contrastive entropy of scores, and scores of pairs from vectors in blocks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import sparse

from lion_sweep.cost.meter import Spending
from lion_sweep.evaluation import entropy
from lion_sweep.evaluation.entropy import entropies, pair_scores
from lion_sweep.search.parts import Parts, Stored

PASSAGES, QUERIES, WIDTH = 100, 7, 12


def test_equal_to_cross_entropy_by_torch() -> None:
    rng = np.random.default_rng(0)
    relevant_P, candidate_QC = rng.normal(0, 30, 6), rng.normal(0, 30, (3, 20))
    asked_P = np.array([0, 0, 0, 1, 2, 2])
    expected = []
    for query in range(3):
        of_query = [
            F.cross_entropy(torch.tensor([[score, *candidate_QC[query]]]), torch.tensor([0])).item()
            for score in relevant_P[asked_P == query]
        ]
        expected.append(np.mean(of_query))
    np.testing.assert_allclose(entropies(relevant_P, asked_P, candidate_QC), expected, rtol=1e-10)


def test_of_equal_scores_it_is_the_logarithm_of_how_many() -> None:
    found = entropies(np.zeros(1), np.array([0]), np.zeros((1, 256)))
    assert found == pytest.approx([np.log(257)])


def test_what_is_taken_out_counts_nothing_and_large_scores_do_not_overflow() -> None:
    candidate_QC = np.array([[1e4, -np.inf], [0.0, 0.0]])
    found = entropies(np.array([1e4, 1e5]), np.array([0, 1]), candidate_QC)
    np.testing.assert_allclose(found, [np.log(2), 0.0])


def test_a_query_without_a_relevant_passage_has_none() -> None:
    assert np.isnan(entropies(np.zeros(1), np.array([1]), np.zeros((2, 3)))[0])


@pytest.fixture(params=["dense", "sparse"])
def vectors(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """(queries, passages)."""
    rng = np.random.default_rng(1)
    query_QD, passage_ND = (
        rng.normal(size=(rows, WIDTH)).astype(np.float32) for rows in (QUERIES, PASSAGES)
    )
    if request.param == "dense":
        return query_QD, passage_ND
    return tuple(sparse.csr_matrix(np.where(one > 0.8, one, 0)) for one in (query_QD, passage_ND))


def stored(passages: Any, folder: Path) -> Stored:
    """In parts whose rows lie among each other's."""
    for rows in (np.arange(0, PASSAGES, 2), np.arange(1, PASSAGES, 2)):
        parts = Parts(folder, PASSAGES)
        parts.add(rows, passages[rows], Spending())
        parts.keep()
    return Stored(folder)


@pytest.mark.parametrize("block", [7, 1000])
def test_scores_of_pairs_are_those_of_whole_matrices(
    vectors: tuple[Any, Any], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entropy, "BLOCK", block)
    monkeypatch.setattr(entropy, "NUMBERS", 40)  # a few pairs at once
    queries, passages = vectors
    rng = np.random.default_rng(2)
    pairs = rng.integers(0, QUERIES, 60), rng.integers(0, PASSAGES, 60)
    found = pair_scores(queries, stored(passages, tmp_path), pairs)
    whole = queries @ passages.T
    whole = whole.toarray() if sparse.issparse(whole) else whole
    np.testing.assert_allclose(found, whole[pairs], rtol=1e-5, atol=1e-6)


def test_no_more_than_a_block_is_read_and_blocks_without_a_pair_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entropy, "BLOCK", 10)
    made = np.arange(PASSAGES * 2, dtype=np.float32).reshape(PASSAGES, 2)
    there, read = stored(made, tmp_path), []
    rows = there.rows
    monkeypatch.setattr(there, "rows", lambda *of: (read.append(of), rows(*of))[1])
    pairs = np.zeros(3, np.int64), np.array([95, 12, 11])
    found = pair_scores(np.ones((1, 2), np.float32), there, pairs)
    assert found.tolist() == [381.0, 49.0, 45.0]
    assert read == [(10, 20), (90, 100)]
