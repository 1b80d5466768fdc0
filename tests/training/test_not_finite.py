"""A loss that is not a number ends the run in that step; the steps before it are kept."""

import json
from pathlib import Path

import pytest
from torch import Tensor
from training_run import Seen, as_rank, do, freeze, spread

from lion_sweep.errors import NotFinite
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.representations import Representations

pytestmark = pytest.mark.usefixtures("single_thread")
WORDS = [
    "paradigm=dense",
    "loss=cl",
    "loss.batch_size=8",
    "budget.steps=4",
    "recipe.warmup=0",
    "recipe.embedding_rate=null",
    "recipe.adapt.chunk=4",
    "recipe.adapt.batch_size=4",
    "recipe.adapt.steps=4",
]


def test_in_training(collection: Path, backbones: dict[bool, Path], tmp_path: Path) -> None:
    folder = freeze(tmp_path, collection, backbones[False], [*WORDS, "recipe.learning_rate=1e25"])
    seen = Seen()
    with pytest.raises(NotFinite, match=r"The loss is nan at step 1: lower recipe.learning_rate"):
        do(folder, seen)
    assert [values["step"] for values in seen.logged] == [1]
    assert len(seen.training) == 1
    assert not list(tmp_path.glob("stages/train-*/done.json"))
    (attempt,) = folder.glob("attempts/*.json")
    assert json.loads(attempt.read_text())["failure"]["class"] == "NaN"
    again = Seen()  # from the step that was kept: the same end at once
    with pytest.raises(NotFinite, match="at step 1"):
        do(folder, again)
    assert not again.logged and not again.adapting


def test_in_adaptation(collection: Path, backbones: dict[bool, Path], tmp_path: Path) -> None:
    words = [*WORDS, "recipe.adapt.learning_rate=1e25"]
    folder, seen = freeze(tmp_path, collection, backbones[False], words), Seen()
    with pytest.raises(NotFinite, match=r"The loss is nan at step 1: lower recipe.learning_rate"):
        do(folder, seen)
    assert len(seen.adapting) == 1
    assert not seen.logged and not seen.training
    assert not list(tmp_path.glob("stages/adapt-*/done.json"))


def poisoned(rank: int, ranks: int, port: int, folder: Path) -> None:
    """A rank of which the second one's loss is not a number."""
    plain = Contrastive.__call__

    def loss(self: Contrastive, step: Representations) -> Tensor:
        return rank * float("nan") * plain(self, step)

    with pytest.MonkeyPatch.context() as planted:
        if rank:
            planted.setattr(Contrastive, "__call__", loss)
        try:
            as_rank(rank, ranks, port, folder)
        except NotFinite as error:
            (folder / f"{rank}.txt").write_text(str(error))


def test_on_one_rank_of_two(collection: Path, backbones: dict[bool, Path], tmp_path: Path) -> None:
    """Both end, with the same cause; nobody is left waiting."""
    words = [*WORDS, "site.devices=2", "recipe.adapt.steps=0"]
    folder = freeze(tmp_path, collection, backbones[False], words)
    spread(poisoned, 2, folder)
    for rank in range(2):
        assert "The loss is nan at step 0" in (folder / f"{rank}.txt").read_text()
    (attempt,) = folder.glob("attempts/*.json")
    assert json.loads(attempt.read_text())["failure"]["class"] == "NaN"
