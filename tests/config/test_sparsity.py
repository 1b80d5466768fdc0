"""Settings of how sparse a cell is that contradict each other are refused, with what to do."""

import re
from collections.abc import Callable

import pytest

from lion_sweep.config import Config
from lion_sweep.errors import UserError
from lion_sweep.stages.validation import validate

Compose = Callable[..., Config]
TOPK = "paradigm=sparse-topk"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["paradigm=dense", "paradigm.target_l0=9"], "paradigm=dense makes others: take paradigm="),
        (["paradigm.target_l0=9", "paradigm.regulariser=null"], "has no regulariser"),
        (["paradigm.target_l0=9", "paradigm.controller=null"], "has no controller"),
        (["paradigm.target_l0=0"], "paradigm.target_l0=0: give a number of terms"),
        (["paradigm.target_l0=few"], "paradigm.target_l0=few: give a number of terms"),
        (["paradigm.target_l0={queries: 9}"], "'paradigm.target_l0={queries: 16, passages: 128}'"),
        (["paradigm.target_l0={queries: 9, texts: 9}"], "greater than 0, or one each"),
        ([TOPK, "paradigm.target_l0=41"], "keeps no more than 40 terms of queries"),
        (["paradigm.target_l0=9", "evaluation.kept_terms=8"], "set evaluation.kept_terms=null"),
        (["paradigm.target_l0=9", "paradigm.controller.rate=-1"], "paradigm.controller.rate=-1"),
        (["paradigm.target_l0=9", "paradigm.controller.most=0.5"], "paradigm.controller.most=0.5"),
        (["paradigm.target_l0=9", "paradigm.controller.approach=2"], "controller.approach=2"),
        (["paradigm.target_l0=9", "+paradigm.controller.more=2"], "paradigm.controller.more is no"),
        ([TOPK, "paradigm.encoder.query_terms=0"], "paradigm=sparse-topk keeps 0 terms of queries"),
        ([TOPK, "+paradigm.encoder.more=0"], "paradigm.encoder.more is not a key of TopKSparse"),
        (["evaluation.topk=[40]"], "evaluation.topk has 40: say QUERY/PASSAGE"),
        (["evaluation.topk=[0/9]"], "evaluation.topk has 0/9"),
        (["evaluation.topk=[4/9,4/9]"], "names a point twice"),
    ],
)
def test_what_cannot_be_is_named(compose_cell: Compose, overrides: list[str], named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        validate(compose_cell("paradigm=sparse", *overrides))


def test_a_number_is_of_both_sides(compose_cell: Compose) -> None:
    one = compose_cell("paradigm=sparse", "paradigm.target_l0=9").paradigm
    both = compose_cell("paradigm=sparse", "paradigm.target_l0={queries: 9, passages: 9.5}")
    validate(both)
    assert (one.target_of("queries"), one.target_of("passages")) == (9, 9)
    assert (both.paradigm.target_of("queries"), both.paradigm.target_of("passages")) == (9, 9.5)
    assert compose_cell("paradigm=sparse").paradigm.target_of("queries") is None


def test_without_a_target_the_regulariser_is_alone(compose_cell: Compose) -> None:
    for paradigm in ("sparse", "sparse-topk", "sparse-l1", "dense"):
        chosen = compose_cell(f"paradigm={paradigm}")
        validate(chosen)
        assert chosen.paradigm.regularised == chosen.paradigm.regulariser
    held = compose_cell("paradigm=sparse-l1", "paradigm.target_l0=9").paradigm.regularised
    assert held is not None
    assert held["regulariser"]["_target_"] == "lion_sweep.losses.l1.L1Regulariser"
    assert held["targets"] == {"queries": 9.0, "passages": 9.0}


def test_top_k_takes_what_the_sparse_encoder_does(compose_cell: Compose) -> None:
    config = compose_cell(TOPK, "recipe.sparse.threshold=1.25")
    assert config.paradigm.encoder["threshold"] == 1.25
    assert config.paradigm.most_terms("queries") == 40
    assert config.paradigm.most_terms("passages") == 400
    assert compose_cell("paradigm=dense").paradigm.most_terms("queries") is None
