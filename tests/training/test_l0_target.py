"""Trainings that are to come to an L0: they do, and go on to the bit where they were killed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from training_run import Seen, do, freeze, take_steps

from lion_sweep.errors import Interrupted
from lion_sweep.files import read_json
from lion_sweep.machine.history import HISTORY
from lion_sweep.training.optimisation import Steps

pytestmark = pytest.mark.usefixtures("single_thread")
WORDS = [
    "paradigm=sparse",
    "loss=cl",
    "loss.batch_size=8",
    "recipe.sparse.threshold=0.4",
    "recipe.adapt.steps=1",
    "recipe.adapt.chunk=4",
    "recipe.learning_rate=0.006",
    "recipe.embedding_rate=0.02",
    "recipe.warmup=0.1",
]


def finished(root: Path) -> tuple[list[dict[str, Any]], dict[str, Any], bytes]:
    """(history, facts, weights)."""
    (done,) = root.glob("stages/train-*/done.json")
    rows = [json.loads(line) for line in (done.parent / HISTORY).read_text().splitlines()]
    (weights,) = (done.parent / "weights").glob("*.safetensors")
    return rows, read_json(done)["facts"], weights.read_bytes()


@pytest.mark.parametrize(
    ("regulariser", "weight", "queries", "passages"),
    [("flops.Flops", 1.0, 6, 12), ("l1.L1", 0.01, 8, 16)],
)
def test_the_target_is_reached(
    regulariser: str,
    weight: float,
    queries: float,
    passages: float,
    collection: Path,
    backbones: dict[bool, Path],
    tmp_path: Path,
) -> None:
    """Within 15 %, from vectors of some thirty terms of 97."""
    words = [
        *WORDS,
        f"paradigm.regulariser._target_=lion_sweep.losses.{regulariser}Regulariser",
        f"paradigm.target_l0={{queries: {queries}, passages: {passages}}}",
        "paradigm.controller.headroom=1",
        f"recipe.sparse.flops_query={weight}",
        f"recipe.sparse.flops_passage={weight}",
        "budget.steps=40",
        "recipe.checkpoint_every=100",
    ]
    take_steps(tmp_path, collection, backbones[False], words)
    rows, facts, _ = finished(tmp_path)
    for what, target in (("queries", queries), ("passages", passages)):
        last = [row[f"L0_{what}"] for row in rows[-5:]]
        assert sum(last) / 5 == pytest.approx(target, rel=0.15)
        assert facts["regulariser"][f"L0_{what}"] == last[-1]


def test_a_killed_training_goes_on_to_the_bit(
    collection: Path,
    backbones: dict[bool, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [*WORDS, "paradigm.target_l0=8", "budget.steps=6", "recipe.checkpoint_every=2"]
    take_steps(tmp_path / "whole", collection, backbones[False], words)
    folder = freeze(tmp_path / "killed", collection, backbones[False], words)
    end = Steps.end

    def ended(steps: Steps, number: int, values: Any, facts: Any) -> None:
        if steps.total == 6 and number == 3:
            raise Interrupted("as if killed")
        end(steps, number, values, facts)

    with monkeypatch.context() as planted:
        planted.setattr(Steps, "end", ended)
        with pytest.raises(Interrupted):
            do(folder, Seen())
    do(folder, Seen())
    (whole, facts, weights), (rows, killed, again) = (
        finished(tmp_path / name) for name in ("whole", "killed")
    )
    for row in (*whole, *rows):
        row.pop("seconds")
    assert rows == whole and again == weights
    assert killed["regulariser"] == facts["regulariser"]
    assert facts["regulariser"]["pressure_passages"] != 0


def test_ranks_measure_what_one_does(
    collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    words = [*WORDS, "paradigm.target_l0=8", "budget.steps=4"]
    found = {}
    for ranks in (1, 2):
        root = tmp_path / str(ranks)
        take_steps(root, collection, backbones[False], [*words, f"site.devices={ranks}"], ranks)
        found[ranks] = finished(root)[0]
    for one, two in zip(found[1], found[2], strict=True):
        for key in ("L0_queries", "L0_passages", "pressure_queries", "pressure_passages"):
            # A weight that is 0 but for rounding may be on in one of them: one of 8 x 97.
            assert two[key] == pytest.approx(one[key], abs=0.2), key


def test_top_k_trains_as_it_searches(
    collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    """Both sides reach the losses with as many terms as they keep, and no gradient besides."""
    words = [*WORDS[1:], "paradigm=sparse-topk", "paradigm.encoder.query_terms=3"]
    words += ["paradigm.encoder.passage_terms=5", "paradigm.target_l0={queries: 3, passages: 5}"]
    run = take_steps(tmp_path, collection, backbones[False], [*words, "budget.steps=2"])
    for row in run.ranks[0].logged:
        assert (row["L0_queries"], row["L0_passages"]) == (3, 5)
    assert not all(torch.equal(weight, run.end[name]) for name, weight in run.start.items())
