"""Names of collections, which files are called after."""

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import run

from lion_sweep.config import Config, changed
from lion_sweep.config.data import EvaluationSet
from lion_sweep.errors import UserError
from lion_sweep.stages.validation import validate

Compose = Callable[..., Config]
RULE = (
    "and files have to be called after it: take letters, digits, spaces and . _ + - inside, 100 at "
    "most, and no .bm25 at the end, such as"
)
ODD = {
    "beir/my set": "beir-my-set",
    "../up": "up",
    ".hidden": "hidden",
    "a\\b": "a-b",
    "a: b?": "a-b",
    "": "mine",
    "/": "mine",
    "mine.bm25": "mine",
    "two\nlines": "two-lines",
    "x" * 101: "x" * 100,
}


def named(compose_cell: Compose, name: str) -> Config:
    config = compose_cell("data=beir", "data.path=folder")
    return changed(config, {"data.name": name})


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_refused_first(compose_cell: Compose, name: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(named(compose_cell, name))
    assert str(caught.value) == f"data.name is {name!r}, {RULE} {ODD[name]}."
    config = changed(
        named(compose_cell, "mine"), {"evaluation.sets": {name: EvaluationSet(path="folder")}}
    )
    with pytest.raises(UserError) as caught:
        validate(config)
    assert str(caught.value) == f"a name in evaluation.sets is {name!r}, {RULE} {ODD[name]}."


@pytest.mark.parametrize("name", ["mine", "trec-dl-2019", "my set", "\u96ea", "v1.5", "a+b", "_x"])
def test_names_that_files_can_have(compose_cell: Compose, name: str) -> None:
    validate(named(compose_cell, name))


def test_the_command_refuses_before_it_reads(tmp_path: Path) -> None:
    words = ["data=beir", f"data.path={tmp_path / 'nowhere'}", f"paths.root={tmp_path / 'out'}"]
    done = run("lion_sweep", *words, 'data.name="beir/my set"', "site=laptop")
    assert (done.returncode, done.stderr) == (
        2,
        f"lion_sweep: data.name is 'beir/my set', {RULE} beir-my-set.\n",
    )
    assert not list(tmp_path.glob("out/stages/*"))
    done = run("lion_sweep.evaluate", "checkpoint=x", *words, "data.name=a/b", "site=laptop")
    assert done.returncode == 2
    assert f"data.name is 'a/b', {RULE} a-b." in done.stderr
