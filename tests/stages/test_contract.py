"""The form of a text is its cell's: in tokens, lengths and files; what cannot be had is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import by_axes

from lion_sweep import evaluate
from lion_sweep.cell.cell import Cell
from lion_sweep.config import Config
from lion_sweep.errors import UserError
from lion_sweep.export import __main__ as export
from lion_sweep.machine.progress import Progress
from lion_sweep.stages.of_cell import Tokeniser
from lion_sweep.stages.texts import tokenizer_of
from lion_sweep.stages.validation import validate
from lion_sweep.stages.workshop import Workshop

SmallCell = Callable[..., Cell]
PROMPTS = ["paradigm.text.query_prompt='find: '", "paradigm.text.passage_prompt='code: '"]


def shop_of(cell: Cell) -> Workshop:
    return Workshop(Path(cell.config.paths.root), Progress("cell", None))


def test_lengths_count_prompt_end_and_echo(small_cell: SmallCell) -> None:
    """Of every text, what a step reads of it and is charged for."""
    more = ["paradigm.text.append_eos=true", "paradigm.text.echo=true"]
    cell = small_cell("paradigm=sparse", *PROMPTS, *more)
    tokenizer, shop = tokenizer_of(cell.stages.blueprint.tokenizer, shop_of(cell)), shop_of(cell)
    course = cell.stages.train.course
    counts, step = course.counts(shop, 1)(4096), course.draws.sampler(shop).step(0)
    charged = counts.lengths(step).tolist()
    assert np.array_equal(np.bincount(charged), counts.block(0)[0][0][: max(charged) + 1])
    for cut, rows, prompt, taken in (
        (course.queries, step.query_B, "find: ", charged[: len(step.query_B)]),
        (course.passages, step.passage_BG.ravel(), "code: ", charged[len(step.query_B) :]),
    ):
        texts = [text for batch in cut.cache.texts.read(shop).batches() for text in batch]
        for row, length in zip(rows.tolist(), taken, strict=True):
            body = tokenizer(prompt + texts[row])["input_ids"][: (cut.length - 1) // 2]
            ids = cut.read(shop).text(row, cut.length).tolist()
            assert ids == [*body, *body, tokenizer.eos_token_id]
            assert length == len(ids) <= cut.length


def test_a_size_is_adapted_on_plain_texts(small_cell: SmallCell) -> None:
    """Cells of every form share it; the texts of a plain one are tokenised once."""
    plain, formed = small_cell("paradigm=dense"), small_cell("paradigm=dense", *PROMPTS)
    assert formed.stages.adapt == plain.stages.adapt
    assert formed.stages.train != plain.stages.train
    assert plain.stages.adapt.passages.cache == plain.stages.train.course.passages.cache
    idle = small_cell("paradigm=repllama", "recipe.adapt.steps=0").stages
    assert idle.adapt.passages.cache == idle.train.course.passages.cache
    told = idle.train.meant_for
    assert told["attention"] == "causal" and told["text"]["query_prompt"] == "query: "


def test_other_collections_are_read_in_the_same_form(small_cell: SmallCell) -> None:
    stages = small_cell("paradigm=sparse", *PROMPTS, "paradigm.text.echo=true").stages
    (trained,) = stages.trained.values()
    caches = {stages.train.course.queries.cache, stages.train.course.passages.cache}
    assert {trained.queries.texts.cache, trained.passages.texts.cache} == caches
    assert trained.queries.texts.echo
    alone = Tokeniser(stages.blueprint.tokenizer)
    text = trained.passages.weights.text
    cache = trained.passages.texts.cache
    cut = alone.cut(cache.texts, trained.passages.texts.length, "x", text, "passages")
    assert cut.identity == trained.passages.texts.identity


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["recipe.lengths.query=6", f"paradigm.text.query_prompt='{'a ' * 9}'"],
            r"query_prompt='a a a.*' is \d+ tokens: .*recipe.lengths.query=6 leaves no room.*Take",
        ),
        (
            ["evaluation.passage_length=3", "paradigm.text.passage_prompt='q: '"],
            r"passage_prompt='q: ' is \d tokens: evaluation.passage_length=3 leaves",
        ),
        (
            ["recipe.lengths.query=2", "paradigm.text.append_eos=true", "paradigm.text.echo=true"],
            r"is 0 tokens, 1 stand around a text, and paradigm.text.echo=true gives both twice: "
            r"recipe.lengths.query=2 leaves no room for a text itself. Take 3 or more",
        ),
    ],
)
def test_a_prompt_that_leaves_no_room(small_cell: SmallCell, words: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        small_cell("paradigm=sparse", *words)


def test_switches_that_contradict_each_other(compose_cell: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"attention=causal .* recipe.adapt.steps=20 .*steps=0"):
        validate(compose_cell("paradigm=repllama"))
    validate(compose_cell("paradigm=repllama", "recipe.adapt.steps=0"))
    for words in (
        ["paradigm.text.echo=true", "paradigm.encoder.echo=false"],
        ["paradigm.encoder.echo=true"],
    ):
        with pytest.raises(UserError, match=r"paradigm.text.echo=.* and paradigm.encoder.echo="):
            validate(compose_cell(*words))


def test_a_cell_is_scored_and_exported_in_its_form(
    laptop, small_beir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained causally, with prompts, end token and echo: the cell, its weights and its export."""
    root, echo = tmp_path / "out", "paradigm.text.echo=true"
    words = ["model=1b", "paradigm=repllama", echo, "loss=cl", "budget=steps", "budget.steps=2"]
    words += ["recipe.adapt.steps=0", "alarms=none"]  # their last states are hardly told apart
    code, printed = laptop.run(*words, f"paths.root={root}")
    assert code == 0, printed
    (result,) = by_axes(root).values()
    folder = tmp_path / "model"
    assert export.main([result["id"], str(folder), "--root", str(root)]) == 0
    card = (folder / "README.md").read_text()
    assert "attention is causal. A text's vector is its last token's last state" in card
    assert "after the prompts 'query: ' and 'passage: ', with the end-of-sequence token" in card
    capsys.readouterr()
    for checkpoint in (root / "cells" / result["id"], folder):
        here = ["data=beir", "data.name=twin", f"data.path={small_beir}", f"paths.root={root}"]
        assert evaluate.main([f"checkpoint={checkpoint}", *here, "format=json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["scores"] == result["scores"]
        assert found["text"]["echo"] is True
