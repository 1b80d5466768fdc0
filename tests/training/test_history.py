"""What a training writes down: whole whatever stops it, and no part of what it computes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import listed
from training_run import Seen, do, freeze, take_steps

from lion_sweep.data.collection import Judged
from lion_sweep.data.tokens import Tokens
from lion_sweep.errors import Interrupted
from lion_sweep.files import read_json
from lion_sweep.machine.history import HISTORY, POINTS, Record, read_rows
from lion_sweep.training import points as points_module
from lion_sweep.training.optimisation import Steps
from lion_sweep.training.points import Points, entropy, reciprocal_rank

pytestmark = pytest.mark.usefixtures("single_thread")
STEPS = 6
WORDS = [
    "loss=cl",
    "loss.batch_size=4",
    f"budget.steps={STEPS}",
    "recipe.lora.rank=4",
    "recipe.lora.dropout=0.3",  # draws random numbers in every pass
    "recipe.embedding_rate=null",
    "recipe.adapt.steps=1",
    "recipe.adapt.chunk=4",
    "recipe.learning_rate=0.01",
]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def finished(root: Path) -> Path:
    """The folder of the training."""
    (done,) = root.glob("stages/train-*/done.json")
    return done.parent


@pytest.mark.parametrize("paradigm", ["dense", "sparse"])
def test_points_change_no_weight(
    paradigm: str, collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    """To the bit, though every pass draws dropout; and what they cost is no training.

    Neither do looks for alarms, which come with the points here.
    """
    found, facts = {}, {}
    for count in (0, 4):
        root = tmp_path / str(count)
        words = [*WORDS, f"paradigm={paradigm}", f"tracking.points={count}"]
        words += [f"alarms={'standard' if count else 'none'}", "recipe.sparse.threshold=0"]
        run = take_steps(root, collection, backbones[False], words)
        found[count], folder = run.end, finished(root)
        facts[count] = read_json(folder / "done.json")["facts"]
        history = lines(folder / HISTORY)
        assert [row["step"] for row in history] == list(range(1, STEPS + 1))
        assert (folder / POINTS).exists() == (count > 0)
    assert all(torch.equal(found[0][name], weight) for name, weight in found[4].items())
    assert facts[0]["spent"] == facts[4]["spent"] == facts[4]["planned"]
    assert "points" not in facts[0] and facts[0]["evaluated"]["useful_flops"] == 0
    assert facts[4]["points"] == {"split": "train", "trained_on": True, "queries": 8}
    assert facts[4]["evaluated"]["useful_flops"] > 0
    points = lines(folder / POINTS)
    assert [row["step"] for row in points] == [1, 2, 3, 5, 6]
    assert [row["step"] for row in points if "entropy" in row] == [2, 3, 5, 6]
    assert ("L0_queries" in points[0]) == (paradigm == "sparse")
    for row in points:
        assert row["useful_flops"] == history[row["step"] - 1]["useful_flops"]
        assert row["gradient_norm"] == history[row["step"] - 1]["gradient_norm"]
        assert row.get("entropy", 1) > 0 and 0 <= row.get("MRR@10", 0) <= 1
        assert row["not_finite"] == 0 and row["spread"] > 0


def test_a_killed_training_has_every_step_once(
    collection: Path,
    backbones: dict[bool, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped three times between checkpoints, once in the middle of a line."""
    words = [*WORDS, "paradigm=dense", "recipe.checkpoint_every=2"]
    take_steps(tmp_path / "whole", collection, backbones[False], words)
    folder = freeze(tmp_path / "killed", collection, backbones[False], words)
    end = Steps.end
    for killed_at in (1, 3, 5):

        def ended(
            steps: Steps, number: int, values: Any, facts: Any, last: int = killed_at
        ) -> None:
            if steps.total == STEPS and number + 1 == last:
                raise Interrupted("as if killed")
            end(steps, number, values, facts)

        with monkeypatch.context() as planted:
            planted.setattr(Steps, "end", ended)
            with pytest.raises(Interrupted):
                do(folder, Seen())
        (partial,) = tmp_path.glob("killed/stages/train-*partial")
        assert lines(partial / HISTORY)[-1]["step"] == killed_at
        with (partial / HISTORY).open("a") as file:
            file.write('{"step": 99, "lo')
    do(folder, Seen())
    whole, killed = (finished(tmp_path / name) for name in ("whole", "killed"))
    for name in (HISTORY, POINTS):
        expected, found = lines(whole / name), lines(killed / name)
        for row in (*expected, *found):
            row.pop("seconds", None)
        assert found == expected
    (weights,) = (whole / "weights").glob("*.safetensors")
    assert weights.read_bytes() == (killed / "weights" / weights.name).read_bytes()


def test_a_record_goes_on_where_its_training_does(tmp_path: Path) -> None:
    path = tmp_path / HISTORY
    record = Record(path, 0)
    for step in range(1, 6):
        record.add({"step": step, "loss": float("nan") if step == 2 else 0.5})
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    assert [row["step"] for row, _ in read_rows(path)] == [1, 2, 3, 4, 5]
    Record(path, 3, writes=False).add({"step": 9})  # another rank's
    again = Record(path, 3)
    again.add({"step": 4, "loss": 0.25})
    assert [(row["step"], row["loss"]) for row, _ in read_rows(path)] == [
        (1, 0.5),
        (2, None),  # JSON has no such number
        (3, 0.5),
        (4, 0.25),
    ]
    rows = list(read_rows(path))
    assert [row["step"] for row, _ in read_rows(path, rows[1][1])] == [3, 4]
    with pytest.raises(FileNotFoundError):
        Record(tmp_path / "gone" / HISTORY, 0).add({"step": 1})


def test_the_pool_is_fixed_and_knows_what_is_relevant() -> None:
    rng = np.random.default_rng(0)
    texts = listed(*(f"text {n}" for n in range(60)))
    qrels = {f"{q}": {f"{q + 20}": 1, f"{q + 21}": 2, f"{q + 22}": 0} for q in range(10)}
    judged = Judged.of(qrels, texts, texts, {})
    ids = rng.integers(0, 9, 60).astype(np.int32)
    tokens = Tokens(ids, np.arange(61, dtype=np.int64))
    one, other = (Points.of(4, judged, tokens, 60) for _ in range(2))
    np.testing.assert_array_equal(one.passage_P, other.passage_P)
    assert len(one.passage_P) == len(set(one.passage_P)) <= 10 * 2 + 10 * points_module.SAMPLED
    for query, relevant_P in zip(one.query_Q, one.relevant_QP, strict=True):
        assert set(one.passage_P[relevant_P]) == {query + 20, query + 21}
    few = judged.of_queries(np.array([3, 5]))
    assert sorted(Points.of(4, few, tokens, 60).query_Q) == [3, 5]
    assert one.due(100) == {25, 50, 75, 100} and one.due(2) == {1, 2}


def test_entropy_and_rank_against_plain_sums() -> None:
    rng = np.random.default_rng(1)
    score_QP = rng.normal(size=(5, 30))
    relevant_QP = np.zeros((5, 30), dtype=bool)
    relevant_QP[np.arange(5), np.arange(5)] = True
    relevant_QP[0, 9] = True
    score_QP[1, 1], score_QP[1, 7] = 5.0, 5.0  # a tie: the relevant one comes second
    score_QP[2, 2] = -9.0  # far below the tenth
    losses, ranks = [], []
    for scores, relevant in zip(score_QP, relevant_QP, strict=True):
        others = np.exp(scores[~relevant]).sum()
        terms = [-np.log(np.exp(s) / (np.exp(s) + others)) for s in scores[relevant]]
        losses.append(np.mean(terms))
        rank = 1 + (scores[~relevant] >= scores[relevant].max()).sum()
        ranks.append(1 / rank if rank <= 10 else 0.0)
    assert ranks[1] == 0.5 and ranks[2] == 0
    tensors = torch.from_numpy(score_QP), torch.from_numpy(relevant_QP)
    assert float(entropy(*tensors)) == pytest.approx(np.mean(losses), rel=1e-12)
    assert float(reciprocal_rank(*tensors)) == pytest.approx(np.mean(ranks), rel=1e-6)


def test_sharded_ranks_write_what_one_process_does(
    collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    """Every rank evaluates, as layers are gathered by all of them; the first one writes."""
    words = [*WORDS, "paradigm=dense", "recipe.lora.dropout=0", "budget.steps=2"]
    take_steps(tmp_path / "one", collection, backbones[False], words)
    spread = [*words, "site.devices=2", "site.shard=always"]
    take_steps(tmp_path / "two", collection, backbones[False], spread, ranks=2)
    for name in (HISTORY, POINTS):
        one, two = (lines(finished(tmp_path / root) / name) for root in ("one", "two"))
        assert [row["step"] for row in one] == [row["step"] for row in two] == [1, 2]
        for row, other in zip(one, two, strict=True):
            row.pop("seconds", None), other.pop("seconds", None)
            assert other == pytest.approx(row, rel=1e-4)
