"""Everything that a grid would read is read, and all that is wrong is told at once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from lion_sweep.check import main
from lion_sweep.data.collection import write

MakeModel = Callable[..., LlamaForCausalLM]
PAIRS = [(f"question {n}", f"Ответ answer {n} " + "word " * n) for n in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound collection, with training groups."""
    write(tmp_path / "col", {"train": PAIRS[:8], "test": PAIRS[8:]})
    group = {"query_id": "q0", "document_ids": ["d0", "d1"], "scores": [2, 1]}
    (tmp_path / "col" / "groups.jsonl").write_text(json.dumps(group) + "\n")
    return tmp_path


@pytest.fixture
def decoder(folder: Path, make_model: MakeModel) -> Path:
    """A tiny Llama."""
    path = folder / "llama"
    make_model().save_pretrained(path)
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "word": 1}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(path)
    return path


def words(folder: Path, decoder: Path) -> list[str]:
    """Overrides of a cell on it."""
    found = [
        "data=beir",
        "data.name=mine",
        f"data.path={folder / 'col'}",
        "data.groups=groups.jsonl",
    ]
    found += ["teacher=given", "loss=kd", f"model.backbone={decoder}", f"checkpoint={decoder}"]
    return [*found, "paradigm=dense", f"paths.root={folder / 'out'}"]


def test_a_sound_collection(
    folder: Path, decoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(folder, decoder)) == 0
    shown = capsys.readouterr().out
    assert "mine: 12 passages, 12 queries, 8 judged train queries, 4 judged test queries" in shown
    # Five letters of Cyrillic and six of Latin, and four more for each "word".
    assert f"Latin {(12 * 6 + 4 * 66) / (12 * 11 + 4 * 66):.1%}, Cyrillic" in shown
    assert "passages: 8 (median), 13 (95 %), 14 (longest) words" in shown
    assert "training groups: 1" in shown
    assert f"decoder: {decoder}, " in shown and f"checkpoint: {decoder.name}" in shown
    assert shown.endswith("nothing is wrong\n")
    assert not list(folder.glob("out/stages/train-*"))


def test_all_faults_at_once(
    folder: Path, decoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "col" / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "x1", "text": ["a"]}\n{"text": "b"}\n')
    (folder / "col" / "queries.jsonl").open("a").write("nonsense\n" * 25)
    (folder / "col" / "groups.jsonl").open("a").write('{"query": 1}\n')
    weights = load_file(decoder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layers.1." not in name}
    save_file(kept, decoder / "model.safetensors", {"format": "pt"})
    assert main(words(folder, decoder)) == 2
    shown = capsys.readouterr().out
    assert 'corpus.jsonl:13: "text" is a list' in shown
    assert 'corpus.jsonl:14 has no "_id"' in shown
    assert shown.count("queries.jsonl:") == 20 + 1  # and how many more
    assert "queries.jsonl: 5 more lines like these." in shown
    assert "groups.jsonl:2 " in shown
    assert shown.count("is no whole LlamaForCausalLM") == 1  # the checkpoint's is the same


def test_a_missing_collection_hides_nothing_else(
    folder: Path, decoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = f"+evaluation.sets.other={{path: {folder / 'nowhere'}}}"
    (folder / "col" / "corpus.jsonl").unlink()
    assert main([*words(folder, decoder), more]) == 2
    shown = capsys.readouterr().out
    assert f"{folder / 'col' / 'corpus.jsonl'} is missing" in shown
    assert f"{folder / 'nowhere'} is not a folder" in shown
    assert f"decoder: {decoder}, " in shown
    assert torch.get_default_dtype() is torch.float32
