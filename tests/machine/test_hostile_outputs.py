"""What the package itself wrote, and models of others, damaged: read, or refused in a sentence."""

import json
import re
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from few_steps import Tiny, few_steps
from hypothesis import given
from hypothesis import strategies as st
from mutations import Change, changes, damaged, tried
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lion_sweep.cell.tasks import TASK, Task
from lion_sweep.config import read_config
from lion_sweep.config.composing import CONFIG
from lion_sweep.data.pretrained import config_of, tokenizer_of
from lion_sweep.data.whole import check_weights
from lion_sweep.errors import UserError
from lion_sweep.files import read_note, sealed, write_json
from lion_sweep.machine.history import read_rows
from lion_sweep.report.collect import collect, unfinished
from lion_sweep.report.kept import keep, unpack
from lion_sweep.report.significance import read_per_query
from lion_sweep.result import FORMAT, read_result
from lion_sweep.stages import engine
from lion_sweep.training.optimisation import CHECKPOINT, Steps

Reader = Callable[[], Any]
RECORD = {"format": FORMAT, "id": "x", "axes": {}, "ladder": "proxy", "seed": 1, "data": "twin"}


def read_or_refused(reader: Reader, *also: type[BaseException]) -> Any:
    """What it reads; None where it says in a line what is wrong."""
    try:
        return reader()
    except (UserError, *also) as error:
        said = str(error)
        said.encode()
        assert said and len(said) < 2000 and "Traceback" not in said
        return None


def sealed_result() -> bytes:
    return json.dumps(sealed(RECORD | {"scores": {"twin": {"nDCG@10": 0.5}}}), indent=2).encode()


@tried
@given(steps=changes)
def test_results(tmp_path: Path, steps: list[Change]) -> None:
    raw = sealed_result()
    path = tmp_path / "cells" / "a" / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damaged(raw, steps))
    if found := read_or_refused(lambda: read_result(path)):
        # Only what no reader tells apart may have changed: white space, or the seal's own key.
        kept = json.loads(raw)
        assert all(found[key] == kept[key] for key in ("id", "axes", "ladder", "seed", "scores"))
    read_or_refused(lambda: collect(tmp_path))
    read_or_refused(lambda: unfinished(tmp_path))
    read_note(path)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frozen") / "cells" / "a"


@tried
@given(steps=changes, name=st.sampled_from([CONFIG, TASK]))
def test_frozen_tasks(compose_cell: Any, frozen: Path, steps: list[Change], name: str) -> None:
    if not (frozen / "kept").exists():
        Task("cell", "a", compose_cell(f"paths.root={frozen.parents[1]}")).freeze()
        for one in (CONFIG, TASK):
            (frozen / "kept").mkdir(exist_ok=True)
            (frozen / "kept" / one).write_bytes((frozen / one).read_bytes())
    for one in (CONFIG, TASK):
        (frozen / one).write_bytes((frozen / "kept" / one).read_bytes())
    (frozen / name).write_bytes(damaged((frozen / name).read_bytes(), steps))
    task = read_or_refused(lambda: Task.thaw(frozen))
    if task:
        assert (task.kind, task.name, task.root) == ("cell", "a", frozen.parents[1])
        assert all(isinstance(word, str) for word in [task.label, *task.shown.axes.values()])
        read_or_refused(lambda: task.config)
    read_or_refused(lambda: read_config(frozen))
    read_or_refused(lambda: unfinished(frozen.parents[1]))


@tried
@given(steps=changes)
def test_finished_stages(tmp_path: Path, steps: list[Change]) -> None:
    folder = engine.folder_of(tmp_path, "train", {"steps": 3})
    if not folder.exists():
        engine.run(folder, {"steps": 3}, lambda partial: {"loss": [0.25, 0.125]})
        (tmp_path / "kept").write_bytes((folder / engine.DONE).read_bytes())
    (folder / engine.DONE).write_bytes(damaged((tmp_path / "kept").read_bytes(), steps))
    found = read_or_refused(lambda: engine.find(folder))
    assert found is None or found.facts == {"loss": [0.25, 0.125]}


@tried
@given(steps=changes)
def test_records_of_training_and_values_per_query(tmp_path: Path, steps: list[Change]) -> None:
    rows = [{"step": n, "loss": 1 / n} for n in range(1, 6)]
    path = tmp_path / "history.jsonl"
    path.write_bytes(damaged("".join(json.dumps(row) + "\n" for row in rows).encode(), steps))
    steps_read = [row["step"] for row, _ in read_rows(path)]
    assert all(one < other for one, other in pairwise(steps_read))
    path.write_bytes(damaged(json.dumps({"nDCG@10": {"q1": 0.25, "q2": 0.75}}).encode(), steps))
    values = read_per_query(path, "nDCG@10", 0.5)
    assert values is None or sum(values.values()) / len(values) == pytest.approx(0.5, rel=1e-6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoint")


@tried
@given(steps=changes)
def test_checkpoints(checkpoint: Path, steps: list[Change]) -> None:
    def begun() -> Steps:
        return few_steps(checkpoint, Accelerator(cpu=True))

    path = checkpoint / CHECKPOINT
    if not (checkpoint / "kept").exists():
        first = begun()
        first.save(3, {"loss": [1.0]})
        (checkpoint / "kept").write_bytes(path.read_bytes())
    path.write_bytes(damaged((checkpoint / "kept").read_bytes(), steps))
    found = read_or_refused(begun)
    if found is not None:
        assert (found.start, found.facts) == (3, {"loss": [1.0]})
        kept = Tiny().trainable()
        assert all(torch.equal(value, kept[name]) for name, value in found.parameters.items())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a decoder, with sharded weights and a tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    words = {word: number for number, word in enumerate(["<unk>", "a", "lion", "roars"])}
    tokenizer = Tokenizer(models.WordLevel(words, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 4}
    write_json(folder / "config.json", {"model_type": "llama", "intermediate_size": 8} | shape)
    save_file({"a": torch.ones(3)}, folder / "one.safetensors")
    save_file({"b": torch.ones(3)}, folder / "two.safetensors")
    places = {"a": "one.safetensors", "b": "two.safetensors"}
    write_json(folder / "model.safetensors.index.json", {"weight_map": places})
    (folder / "kept").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        (folder / "kept" / path.name).write_bytes(path.read_bytes())
    return folder


@tried
@given(steps=changes, share=st.floats(0, 1, exclude_max=True))
@pytest.mark.filterwarnings("ignore")
def test_models_of_others(model: Path, steps: list[Change], share: float) -> None:
    names = sorted(path.name for path in (model / "kept").iterdir())
    changed = names[int(share * len(names))]
    for name in names:
        raw = (model / "kept" / name).read_bytes()
        (model / name).write_bytes(damaged(raw, steps) if name == changed else raw)
    read_or_refused(lambda: check_weights(model))
    read_or_refused(lambda: config_of(str(model)), OSError)
    tokenizer_of.cache_clear()
    read_or_refused(lambda: tokenizer_of(str(model), None, True), OSError)


@pytest.mark.parametrize("name", ["../one.safetensors", "/etc/passwd", "sub/one.safetensors"])
def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": name}})
    with pytest.raises(UserError, match=rf"{re.escape(repr(name))} is no name of a file beside it"):
        check_weights(folder)


@tried
@given(steps=changes)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_kept_archives(tmp_path: Path, steps: list[Change]) -> None:
    cell = tmp_path / "made" / "cells" / "a"
    cell.mkdir(parents=True, exist_ok=True)
    (cell / "result.json").write_bytes(sealed_result())
    archive, out = tmp_path / "kept.zip", tmp_path / "out"
    keep(tmp_path / "made", archive)
    archive.write_bytes(damaged(archive.read_bytes(), steps))
    read_or_refused(lambda: unpack(archive, out))
    outside = {path.name for path in tmp_path.iterdir()} - {"made", "kept.zip", "out"}
    assert outside == set()


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    archive, out = tmp_path / "kept.zip", tmp_path / "a" / "out"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("../../escaped", "x")
        made.writestr("/absolute", "x")
    unpack(archive, out)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "kept.zip"}
    assert {path.name for path in out.rglob("*")} == {"escaped", "absolute"}
