"""The audit of a teacher's scores: numbers by hand, what it refuses, whether its advice helps.

Shapes: R rows of queries, G = 1 + negatives.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage_contents import done
from taught_pairs import QRELS, teacher, write_collection

from lion_sweep.cell.cell import Cell
from lion_sweep.config import Config
from lion_sweep.errors import UserError
from lion_sweep.stages.audit import AuditTeacher
from lion_sweep.stages.teacher import SCORES
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.validation import validate

Compose = Callable[..., Config]
SmallCell = Callable[..., Cell]

# (query, its documents, the positive first, their scores)
GROUPS = [
    ("q0", ["d3", "d5", "d0", "d2"], [2.0, 1.0, -0.5, 2.25]),
    ("q1", ["d7", "d0", "d5"], [3.5, 0.25, 1.5]),
    ("q2", ["d0", "d5", "d1", "d7"], [1.0, 1.0, 0.0, -2.0]),
    ("q0", ["d1", "d7", "d0"], [4.0, 1.0, 0.5]),
]
KD, CLKD = ["loss=kd"], ["loss=clkd"]


@pytest.fixture
def audited(compose_cell: Compose, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What the audit finds of a teacher of given scores, and the scores that it read."""

    def found(*words: str, groups: Any = GROUPS) -> dict[str, Any]:
        folder = tmp_path / "beir"
        if not folder.exists():
            write_collection(folder)
        keys = "query_id", "document_ids", "scores"
        lines = [json.dumps(dict(zip(keys, group, strict=True))) for group in groups]
        (folder / "groups.jsonl").write_text("\n".join(lines))
        config = compose_cell(
            "data=beir",
            f"data.path={folder}",
            "data.groups=groups.jsonl",
            f"paths.root={tmp_path / 'out'}",
            "teacher=given",
            *words,
        )
        teach, shop = teacher(config)
        pairs, _ = evaluation_sets(config, shop)[config.data.name]
        audit = AuditTeacher.of(config, teach, pairs.judged[config.data.train_split])
        facts = shop.run(audit).facts
        return facts | {"score_RG": np.load(shop.folder(teach) / SCORES).tolist()}

    return found


def share_of(values: list[float], share: float) -> float:
    """A quantile, between the two nearest values."""
    values, place = sorted(values), share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def plain_entropy(row: list[float], scale: float) -> float:
    powers = [math.exp(scale * score) for score in row]
    shares = [power / sum(powers) for power in powers]
    return -sum(share * math.log(share) for share in shares) / math.log(len(row))


def test_the_numbers_are_those_of_the_scores(audited: Callable[..., dict[str, Any]]) -> None:
    weight, scale = 2.0, 0.75
    facts = audited(
        *CLKD, f"teacher.scorers.own.weight={weight}", f"paradigm.teacher_scale={scale}"
    )
    score_RG = facts["score_RG"]
    known = {weight * score for _, _, scores in GROUPS for score in scores}
    assert {score for row in score_RG for score in row} <= known
    margins = [row[0] - other for row in score_RG for other in row[1:]]
    assert facts["pairs"] == sum(map(len, score_RG)) and facts["coverage"] == 1
    for name, values in (
        ("scores", [one for row in score_RG for one in row]),
        ("margins", margins),
    ):
        expected = {
            f"{100 * share:.0f}%": share_of([scale * value for value in values], share)
            for share in (0.05, 0.25, 0.5, 0.75, 0.95)
        }
        assert facts[name] == pytest.approx(expected, rel=1e-6)
    assert facts["inverted"] == pytest.approx(sum(m < 0 for m in margins) / len(margins))
    assert 0 < facts["inverted"] < 0.5
    told = facts["targets"]["listwise_kl"]
    mean = sum(plain_entropy(row, scale) for row in score_RG) / len(score_RG)
    assert told == {"scale": scale, "entropy": pytest.approx(mean, rel=1e-9)}
    assert facts["judged"] == 1 and facts["faults"] == []
    told = audited(*KD, f"paradigm.teacher_scale={scale}")["targets"]["margin_mse"]
    sizes = [abs(margin) / weight for margin in margins]
    assert told == {"scale": scale, "margin": pytest.approx(scale * share_of(sizes, 0.5))}


@pytest.mark.parametrize(
    ("words", "scale", "said"),
    [
        (CLKD, "0.001", r"listwise_kl is to follow a softmax of 100.00% .* is flat .*flat=0.98\)"),
        (CLKD, "1000", r"listwise_kl is to follow a softmax of \S+ .* one-hot .*one_hot=0.01\)"),
        (KD, "0.001", r"margins of 0.00\d+ \(median\), which is too small .*margin=\[0.1, 300.0\]"),
        (KD, "1000", r"margins of \S+ \(median\), which is too large"),
    ],
)
def test_a_target_of_the_wrong_scale_is_refused_with_one_that_will_do(
    audited: Callable[..., dict[str, Any]], words: list[str], scale: str, said: str
) -> None:
    groups = [group for group in GROUPS if group[0] != "q2"]  # whose best two are equal
    with pytest.raises(UserError, match=said) as error:
        audited(*words, f"paradigm.teacher_scale={scale}", groups=groups)
    advice = re.search(r"say (paradigm.teacher_scale=\S+), it is", str(error.value))
    assert advice and "teacher.audit.on_failure=warn" in str(error.value)
    assert audited(*words, advice[1], groups=groups)["faults"] == []
    warned = ["teacher.audit.on_failure=warn", f"paradigm.teacher_scale={scale}"]
    [fault] = audited(*words, *warned, groups=groups)["faults"]
    assert re.search(said, fault)


def test_a_temperature_of_the_term_counts(audited: Callable[..., dict[str, Any]]) -> None:
    facts = audited(*CLKD, "paradigm.teacher_scale=2", "recipe.listwise.teacher_temperature=4")
    mean = sum(plain_entropy(row, 0.5) for row in facts["score_RG"]) / len(facts["score_RG"])
    assert facts["targets"]["listwise_kl"]["entropy"] == pytest.approx(mean, rel=1e-9)


def test_equal_scores_and_another_collection_are_refused(
    audited: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    equal = [(query, documents, [1.0] * len(documents)) for query, documents, _ in GROUPS]
    for words in (KD, CLKD):
        with pytest.raises(UserError, match=r"scores of a query hardly differ, .* choose another"):
            audited(*words, groups=equal)
    other = [(query, documents[::-1], scores) for query, documents, scores in GROUPS]
    assert not any(documents[0] in QRELS[query] for query, documents, _ in other)
    with pytest.raises(
        UserError, match=r"Of no training pair .* data.qrels: .* another collection"
    ):
        audited(*CLKD, groups=other)


def test_a_pair_without_a_score_is_named(small_cell: SmallCell, tmp_path: Path) -> None:
    words = ["loss=kd", "teacher.scorers.own._target_=taught_pairs.Holes"]
    cell = small_cell(*words, "budget=steps", "budget.steps=1", f"paths.root={tmp_path}")
    with pytest.raises(
        UserError, match=r"Holes .* no score for 1 of [\d,]+ pairs, such as query '"
    ):
        done(cell)
    assert not list(tmp_path.glob("stages/train-*"))


def test_a_cell_is_stopped_before_anything_heavy(small_cell: SmallCell, tmp_path: Path) -> None:
    words = ["loss=clkd", "budget=steps", "budget.steps=1", f"paths.root={tmp_path}"]
    with pytest.raises(UserError, match="which is one-hot"):
        done(small_cell(*words, "paradigm.teacher_scale=1e6"))
    assert list(tmp_path.glob("stages/teacher-*"))
    assert not list(tmp_path.glob("stages/train-*")) + list(tmp_path.glob("stages/adapt-*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss=kd", "teacher.scorers.own.kind=probability"], "own: probability"),
        (["loss=clkd", "teacher.scorers.own.kind=cosine"], "read softmax of 1 times them"),
    ],
)
def test_bounded_scores_need_a_scale(compose_cell: Compose, words: list[str], said: str) -> None:
    base = ["teacher=given", "paradigm.teacher_scale=1", *words]
    with pytest.raises(UserError) as error:
        validate(compose_cell(*base))
    assert said in str(error.value)
    advice = re.search(r"say (paradigm.teacher_scale=\S+) or so", str(error.value))
    assert advice and advice[1] == "paradigm.teacher_scale=20"
    validate(compose_cell(*base, advice[1]))
    validate(compose_cell(*base, "teacher.scorers.own.kind=margin"))
    with pytest.raises(UserError, match=r"own.kind=odds is no kind of scores: logit, margin"):
        validate(compose_cell(*base, "teacher.scorers.own.kind=odds"))


def test_a_changed_limit_makes_no_other_cell(small_cell: SmallCell) -> None:
    one, other = (small_cell("loss=kd", f"teacher.audit.flat={share}") for share in (0.98, 0.9))
    assert one.id == other.id and one.stages.train == other.stages.train
    assert one.stages.audit and other.stages.audit and one.stages.audit != other.stages.audit
    assert replace(one.stages.audit, limits=other.stages.audit.limits) == other.stages.audit
