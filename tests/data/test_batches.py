"""Steps, micro-batches, padding and the token cache.

Shapes: P training pairs, M mined negatives, N texts, L tokens.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import listed
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lion_sweep.config import Sampling
from lion_sweep.data import batches, tokens
from lion_sweep.data.batches import Sampler, Step, as_many, micro_batches, pad
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import UserError

PAIRS, MINED = 13, 6


def groups(mined: list[int] | None = None) -> Groups:
    """Pair p is query 100 + p with positive 200 + p; `mined` negatives fill its row."""
    counts = mined or [3 + pair % 4 for pair in range(PAIRS)]
    negative_PM = np.full((PAIRS, MINED), MISSING, dtype=np.int32)
    score_PM = np.zeros((PAIRS, MINED), dtype=np.float32)
    for pair, count in enumerate(counts):
        negative_PM[pair, :count] = 1000 + 10 * pair + np.arange(count)
        score_PM[pair, :count] = negative_PM[pair, :count] / 2
    rows_P = np.arange(PAIRS, dtype=np.int32)
    return Groups(
        query_P=100 + rows_P,
        positive_P=200 + rows_P,
        negative_PM=negative_PM,
        positive_score_P=rows_P.astype(np.float32),
        negative_score_PM=score_PM,
    )


def sampler(batch_size: int = 4, negatives: int = 2, seed: int = 1) -> Sampler:
    return Sampler(groups(), batch_size, negatives, seed)


def as_lists(step: Step) -> tuple[list, list, list]:
    return step.query_B.tolist(), step.passage_BG.tolist(), step.teacher_BG.tolist()


def test_a_step_depends_on_its_number_alone() -> None:
    in_order = sampler()
    expected = [as_lists(in_order.step(number)) for number in range(10)]
    jumping = sampler()
    for number in (9, 0, 4, 3, 7, 3, 9, 1):
        assert as_lists(jumping.step(number)) == expected[number]
        assert as_lists(sampler().step(number)) == expected[number]
    assert len({str(step) for step in expected}) == 10


def test_an_epoch_covers_every_pair_once() -> None:
    whole = sampler(batch_size=13)
    assert whole.steps_per_epoch == 1
    for epoch in range(3):
        assert sorted(whole.step(epoch).query_B.tolist()) == list(range(100, 113))
    assert whole.step(0).query_B.tolist() != whole.step(1).query_B.tolist()
    cut = sampler(batch_size=4)
    assert cut.steps_per_epoch == 3
    for epoch in range(3):
        seen = [query for place in range(3) for query in cut.step(3 * epoch + place).query_B]
        assert len(set(seen)) == 12


def test_a_row_belongs_together() -> None:
    step = sampler(batch_size=13, negatives=3).step(0)
    assert step.passage_BG.shape == step.teacher_BG.shape == (13, 4)
    for query, passages, scores in zip(*as_lists(step), strict=True):
        pair = query - 100
        assert passages[0] == 200 + pair
        assert scores[0] == pair
        assert all((passage - 1000) // 10 == pair for passage in passages[1:])
        assert scores[1:] == [passage / 2 for passage in passages[1:]]


def test_negatives_are_distinct() -> None:
    # Every pair has three mined negatives or more.
    three = sampler(batch_size=13, negatives=3)
    drawn: set[int] = set()
    for number in range(20):
        negatives_BM = three.step(number).passage_BG[:, 1:]
        assert (negatives_BM != MISSING).all()
        assert all(len(set(row)) == 3 for row in negatives_BM.tolist())
        drawn.update(negatives_BM.ravel().tolist())
    mined = groups().negative_PM
    assert drawn == set(mined[mined != MISSING].tolist())


def test_too_few_negatives_are_repeated() -> None:
    few = Sampler(groups(mined=[1, 2] * 6 + [1]), 13, 4, seed=1)
    for query, passages, _ in zip(*as_lists(few.step(0)), strict=True):
        available = 1 + (query - 100) % 2
        assert MISSING not in passages
        assert len(set(passages[1:])) == available
        assert passages[1 : 1 + available] == passages[-available:]


def test_negatives_are_drawn_evenly() -> None:
    """Every pair of five columns is drawn about equally often: 1 of 10 times, six sigmas wide."""
    pairs = 20_000
    rows_P = np.arange(pairs, dtype=np.int32)
    negative_PM = np.tile(np.arange(5, dtype=np.int32), (pairs, 1))
    none = np.zeros((pairs, 5), dtype=np.float32)
    drawn = Sampler(Groups(rows_P, rows_P, negative_PM, none[:, 0], none), 1000, 2, seed=3)
    seen = Counter(
        frozenset(row)
        for number in range(drawn.steps_per_epoch)
        for row in drawn.step(number).passage_BG[:, 1:].tolist()
    )
    assert len(seen) == 10
    spread = 6 * (pairs * 0.1 * 0.9) ** 0.5
    assert all(abs(count - pairs / 10) < spread for count in seen.values())


def plain_steps(pairs: int, epochs: int, block: int, batch_size: int, negatives: int) -> list:
    """(pairs, columns of their negatives) of the steps of a block of epochs, draw by draw."""
    rng = np.random.default_rng([1, block])
    shuffled = rng.permuted(np.tile(np.arange(pairs), (epochs, 1)), axis=1)
    used = [pair for epoch in shuffled for pair in epoch[: pairs // batch_size * batch_size]]
    columns: list[list[int]] = [[] for _ in used]
    mined = [3 + pair % 4 for pair in used]
    for place in range(negatives):
        for drawn, count, chance in zip(columns, mined, rng.random(len(used)), strict=True):
            last = count - negatives + place
            column = int(chance * (last + 1))
            drawn.append(last if column in drawn else column)
    steps = range(0, len(used), batch_size)
    return [(used[at : at + batch_size], columns[at : at + batch_size]) for at in steps]


@pytest.mark.parametrize(("most", "epochs"), [(30, 2), (10, 1)])
def test_blocks_of_epochs_follow_one_another(
    monkeypatch: pytest.MonkeyPatch, most: int, epochs: int
) -> None:
    """Collections of fewer pairs than a block takes, and of more: every step is the one meant."""
    monkeypatch.setattr(batches, "BLOCK_PAIRS", most)
    drawn = sampler(batch_size=4, negatives=2)
    assert drawn.steps_per_block == 3 * epochs
    expected = [
        step
        for block in range(4)
        for step in plain_steps(PAIRS, epochs, block, batch_size=4, negatives=2)
    ]
    numbers = [*range(len(expected)), 0, len(expected) - 1, 3 * epochs, 3 * epochs - 1]
    for number in numbers:
        pairs, columns = expected[number]
        step = drawn.step(number)
        assert step.query_B.tolist() == [100 + pair for pair in pairs]
        negatives = [
            [1000 + 10 * pair + column for column in own]
            for pair, own in zip(pairs, columns, strict=True)
        ]
        assert step.passage_BG[:, 1:].tolist() == negatives


def test_a_collection_of_more_pairs_than_a_block() -> None:
    """Every epoch is a block, and covers every pair once."""
    pairs, batch = batches.BLOCK_PAIRS + 1000, 4096
    rows_P = np.arange(pairs, dtype=np.int32)
    few_PM = np.stack([rows_P, rows_P + 1], axis=1)
    drawn = Sampler(Groups(rows_P, rows_P, few_PM, 1.0 * rows_P, 1.0 * few_PM), batch, 1, seed=3)
    assert drawn.steps_per_block == drawn.steps_per_epoch == pairs // batch
    orders = []
    for epoch in range(2):
        numbers = range(epoch * drawn.steps_per_epoch, (epoch + 1) * drawn.steps_per_epoch)
        steps = [drawn.step(number) for number in numbers]
        orders.append(np.concatenate([step.query_B for step in steps]))
        assert len(np.unique(orders[-1])) == pairs // batch * batch
        assert all((np.abs(s.passage_BG[:, 1] - s.query_B - 0.5) == 0.5).all() for s in steps)
    assert (orders[0] != orders[1]).mean() > 0.99


def test_seeds_differ() -> None:
    one, other = sampler(13, 3, seed=1).step(0), sampler(13, 3, seed=2).step(0)
    assert one.query_B.tolist() != other.query_B.tolist()
    assert sorted(one.passage_BG.ravel()) != sorted(other.passage_BG.ravel())


def test_a_batch_larger_than_the_pairs_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.batch_size=14 .* 13 training pairs"):
        sampler(batch_size=14)


def test_parts_of_a_step() -> None:
    step = sampler(batch_size=4).step(2)
    for part, rows in zip(step.split(2), (slice(0, 2), slice(2, 4)), strict=True):
        assert as_lists(part) == tuple(column[rows] for column in as_lists(step))
    with pytest.raises(UserError, match=r"loss\.batch_size=4 does not divide into 3 parts"):
        step.split(3)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_micro_batches(lengths: list[int], limit: int) -> None:
    length_N = np.array(lengths, dtype=np.int64)
    batches = list(micro_batches(length_N, limit))
    order = [row for batch in batches for row in batch.tolist()]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths, reverse=True)
    for number, batch in enumerate(batches):
        longest = length_N[batch].max()
        assert len(batch) * longest <= limit or len(batch) == 1
        if number + 1 < len(batches):  # one more row would have been too many
            assert (len(batch) + 1) * longest > limit


def test_batches_are_halved_until_there_are_so_many() -> None:
    batches = [np.array([7, 2]), np.array([0, 5, 1, 4, 3]), np.array([6])]
    cut = [batch.tolist() for batch in as_many(batches, 5)]
    assert cut == [[7, 2], [0, 5], [1], [4, 3], [6]]
    assert [batch.tolist() for batch in as_many(batches, 8)] == [
        [7],
        [2],
        [0],
        [5],
        [1],
        [4],
        [3],
        [6],
    ]
    assert [batch.tolist() for batch in as_many(batches, 2)] == [
        batch.tolist() for batch in batches
    ]
    with pytest.raises(ValueError, match="8 rows cannot be cut into 9"):
        as_many(batches, 9)


def test_pad() -> None:
    texts = [np.array(text, dtype=np.int32) for text in ([4, 5, 6], [7], [8, 9])]
    ids_NL, mask_NL = pad(texts, torch.device("cpu"))
    assert ids_NL.dtype == mask_NL.dtype == torch.int64
    assert ids_NL.tolist() == [[4, 5, 6], [7, 0, 0], [8, 9, 0]]
    assert mask_NL.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    longer = pad(texts, torch.device("cpu"), 5)
    assert [part_NL[:, 3:].tolist() for part_NL in longer] == [[[0, 0]] * 3] * 2
    assert torch.equal(longer[0][:, :3], ids_NL)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Letters a to e are tokens 1 to 5; 9 is padding; anything else is nothing."""
    vocabulary = {letter: 1 + number for number, letter in enumerate("abcde")} | {"#": 9}
    model = Tokenizer(models.BPE(vocabulary, []))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token="#")


@pytest.fixture
def cache(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> tokens.Tokens:
    count = tokens.write(tmp_path, listed("a b c", "?", "d", "e a b c d", "b b"), tokenizer, 4)
    assert count == 3 + 1 + 1 + 4 + 2
    return tokens.read(tmp_path)


def texts(cache: tokens.Tokens, length: int = 100) -> list[list[int]]:
    return [cache.text(row, length).tolist() for row in range(len(cache))]


def test_tokens_come_back(cache: tokens.Tokens) -> None:
    assert texts(cache) == [[1, 2, 3], [9], [4], [5, 1, 2, 3], [2, 2]]
    assert isinstance(cache.ids_T, np.memmap)


def test_tokens_are_cut(cache: tokens.Tokens) -> None:
    assert texts(cache, 2) == [[1, 2], [9], [4], [5, 1], [2, 2]]
    assert cache.lengths(2).tolist() == [2, 1, 1, 2, 2]
    assert cache.lengths(100).tolist() == [3, 1, 1, 4, 2]


def test_subset(cache: tokens.Tokens) -> None:
    assert texts(cache.subset([3, 0, 3])) == [[5, 1, 2, 3], [1, 2, 3], [5, 1, 2, 3]]


def scored_groups() -> Groups:
    """Rows of candidates in no order of their scores, some scores equal, and few of the last."""
    score_PM = np.array(
        [
            [3, 9, 1, 7, 5, 2, 8],  # by falling score columns 1, 6, 3, 4, 0, 5, 2
            [4, 4, 6, 4, 0, 5, 0],  # 2, 5, 0, 1, 3, 4, 6
            [1, 2, 0, 0, 0, 0, 0],  # 1, 0: it has two
        ],
        dtype=np.float32,
    )
    negative_PM = 10 * np.arange(1, 4, dtype=np.int32)[:, None] + np.arange(7, dtype=np.int32)
    negative_PM[2, 2:] = MISSING
    rows_P = np.arange(3, dtype=np.int32)
    return Groups(rows_P, 100 + rows_P, negative_PM, rows_P.astype(np.float32), score_PM)


def negatives(sampler: Sampler, steps: int) -> dict[int, list[list[int]]]:
    """By query, the negatives of each of its steps."""
    found: dict[int, list[list[int]]] = {}
    for number in range(steps):
        step = sampler.step(number)
        for query, passages in zip(step.query_B, step.passage_BG, strict=True):
            found.setdefault(int(query), []).append(passages[1:].tolist())
    return found


def test_top_negatives_are_those_that_score_highest() -> None:
    drawn = Sampler(scored_groups(), 3, 3, seed=1, sampling=Sampling.top)
    for query, rows in negatives(drawn, 5).items():
        assert rows == [[[11, 16, 13], [22, 25, 20], [31, 30, 31]][query]] * 5
    step = drawn.step(2)
    by_query = dict(zip(step.query_B.tolist(), step.teacher_BG.tolist(), strict=True))
    assert by_query == {0: [0, 9, 8, 7], 1: [1, 6, 5, 4], 2: [2, 2, 1, 2]}


def test_stratified_negatives_are_one_of_each_part() -> None:
    """Seven candidates in three parts: the first two, two more, the last three."""
    drawn = Sampler(scored_groups(), 3, 3, seed=1, sampling=Sampling.stratified)
    found = negatives(drawn, 400)
    parts = {
        0: [{11, 16}, {13, 14}, {10, 15, 12}],
        1: [{22, 25}, {20, 21}, {23, 24, 26}],
    }
    for query, expected in parts.items():
        for place, part in enumerate(expected):
            seen = Counter(row[place] for row in found[query])
            assert set(seen) == part
            spread = 6 * (400 * (1 / len(part)) * (1 - 1 / len(part))) ** 0.5
            assert all(abs(count - 400 / len(part)) < spread for count in seen.values())
    assert found[2] == [[31, 30, 31]] * 400


@pytest.mark.parametrize("how", list(Sampling))
def test_every_way_of_drawing_is_a_function_of_the_step(how: Sampling) -> None:
    in_order = Sampler(groups(), 4, 2, 1, sampling=how)
    expected = [as_lists(in_order.step(number)) for number in range(10)]
    for number in (9, 0, 4, 9):
        assert as_lists(Sampler(groups(), 4, 2, 1, sampling=how).step(number)) == expected[number]
    first = Sampler(groups(), 4, 2, 1, sampling=how).first(10)
    assert first.passage_BG.tolist() == [row for _, rows, _ in expected for row in rows]


def test_what_has_no_scores_cannot_be_drawn_by_them() -> None:
    nothing = np.full(PAIRS, np.nan, dtype=np.float32)
    bare = replace(groups(), positive_score_P=nothing)
    assert Sampler(bare, 4, 2, 1).step(0).passage_BG.shape == (4, 3)
    with pytest.raises(UserError, match=r"loss.sampling=top draws .* data.groups has none"):
        Sampler(bare, 4, 2, 1, sampling=Sampling.top).step(0)
