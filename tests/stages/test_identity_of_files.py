"""Every file that is read is known by what it holds, whatever its name, its place and its times."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from identity_table import SPARSE
from safetensors.numpy import load_file, save_file
from stage_contents import contents, done, same

from lion_sweep.cell.cell import Cell

SmallCell = Callable[..., Cell]


@pytest.fixture
def inputs(small_cell: SmallCell, small_beir: Path, tmp_path: Path) -> Path:
    """A collection with groups, a decoder and a teacher's encoder, all of them folders."""
    shutil.copytree(small_beir, tmp_path / "data")
    built = small_cell()
    for name in ("decoder", "teacher"):
        shutil.copytree(built.stages.blueprint.source, tmp_path / name)
    queries = [json.loads(line) for line in (small_beir / "queries.jsonl").open()]
    documents = [json.loads(line)["_id"] for line in (small_beir / "corpus.jsonl").open()]
    lines = [
        json.dumps(
            {
                "query_id": query["_id"],
                "document_ids": [documents[row], documents[-1 - row], documents[row + 1]],
                "scores": [3.0, 1.0, 0.5 * row],
            }
        )
        for row, query in enumerate(queries[:40])
    ]
    (tmp_path / "data" / "groups.jsonl").write_text("\n".join(lines))
    return tmp_path


def reworded(path: Path) -> None:
    """Other content of as many bytes, under the same name and time."""
    stat = path.stat()
    text = path.read_text(encoding="utf-8")
    assert "the" in text
    path.write_text(text.replace("the", "hte"), encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def reversed_lines(path: Path) -> None:
    """The same lines, the other way round."""
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([head, *reversed(lines)]) + "\n", encoding="utf-8")


def other_scores(path: Path) -> None:
    """Groups whose last negative is worth more."""
    path.write_text(path.read_text().replace("3.0, 1.0", "1.0, 3.0"))


def other_weights(folder: Path) -> None:
    """A decoder of the same shape, drawn anew."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    generator = np.random.default_rng(0)
    for name, array in weights.items():
        noise = generator.normal(scale=0.05, size=array.shape).astype(array.dtype)
        weights[name] = array + noise
    save_file(weights, path, metadata={"format": "pt"})


def other_tokenizer(folder: Path) -> None:
    """A tokenizer that keeps capitals apart."""
    path = folder / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["normalizer"] = None
    path.write_text(json.dumps(settings))


FILES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "the corpus": ("data/corpus.jsonl", reworded, "adapt"),
    "the queries": ("data/queries.jsonl", reworded, "train"),
    "the order of judgements": ("data/qrels/train.tsv", reversed_lines, "negatives"),
    "the training groups": ("data/groups.jsonl", other_scores, "negatives"),
    "the decoder's weights": ("decoder", other_weights, "adapt"),
    "the decoder's tokenizer": ("decoder", other_tokenizer, "adapt"),
    "the teacher's weights": ("teacher", other_weights, "teacher"),
    "the teacher's tokenizer": ("teacher", other_tokenizer, "teacher"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_with_other_content_under_the_same_name(
    small_cell: SmallCell, inputs: Path, what: str
) -> None:
    """It makes another cell, whose numbers are those of a cell that never knew the old content."""
    name, change, first = FILES[what]
    mined = what == "the order of judgements"  # which tell no order to given groups
    overrides = [
        *(word for word in SPARSE if word != "teacher=bm25"),
        "teacher=minilm",
        f"data.path={inputs / 'data'}",
        f"data.groups={'null' if mined else 'groups.jsonl'}",
        f"model.backbone={inputs / 'decoder'}",
        f"teacher.scorers.encoder.model={inputs / 'teacher'}",
        "teacher.scorers.encoder.weight=2.0",
        "teacher.scorers.own.weight=1.0",
        "paradigm.teacher_scale=0.5",
    ]
    before = done(small_cell(*overrides, f"paths.root={inputs / 'root'}"))
    change(inputs / name)
    after = small_cell(*overrides, f"paths.root={inputs / 'root'}")
    assert before.id != after.id and not after.complete
    roles = before.stages.roles
    differing = [t for t, stage in after.stages.roles.items() if roles.get(t) != stage]
    assert first in differing
    fresh = done(small_cell(*overrides, f"paths.root={inputs / 'fresh'}"))
    assert fresh.id == after.id
    again = contents(done(after))
    assert all(same(again[key], content, rounded=False) for key, content in contents(fresh).items())
    assert not same(
        contents(before)[roles["train"].name],
        again[after.stages.train.name],
        rounded=False,
    )
