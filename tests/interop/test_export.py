"""A cell as a model for others: the same ranking, and a card that tells what it is."""

import json
import shutil
from pathlib import Path

import pytest
from commands import run
from support import by_axes
from transformers import AutoModelForCausalLM, AutoTokenizer

from lion_sweep.errors import UserError
from lion_sweep.export import __main__ as export


@pytest.mark.parametrize("name", ["3b-sparse-clkd", "1b-dense-cl"])
def test_an_exported_cell_scores_as_it_did(
    twin: Path, small_beir: Path, tmp_path: Path, name: str
) -> None:
    result = by_axes(twin)[name]
    folder = tmp_path / "model"
    asked = [result["id"], str(folder), "--root", str(twin)]
    done = run("lion_sweep.export", *asked)
    assert done.returncode == 0, done.stderr
    words = ["data=beir", "data.name=twin", f"data.path={small_beir}", f"paths.root={tmp_path}"]
    scored = run("lion_sweep.evaluate", f"checkpoint={folder}", *words, "format=json")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["scores"] == result["scores"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert (
        "PROXY" in card
        and f"| twin | nDCG@10 | {result['scores']['twin']['nDCG@10']:.4f} |" in card
    )
    assert f"{result['ledger']['train']['spent']['useful_flops']:.4g}" in card
    sparse = result["axes"]["paradigm"] == "sparse"
    assert ("log(1 + relu(s * z - 2))" if sparse else "scaled to unit length. Scores") in card
    # Anybody's transformers loads it.
    assert AutoModelForCausalLM.from_pretrained(folder).config.is_causal is False
    assert AutoTokenizer.from_pretrained(folder)("lions roar")["input_ids"]
    again = run("lion_sweep.export", *asked)
    assert again.returncode == 2 and "is there already" in again.stderr


def test_what_cannot_be_exported(twin: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the folder of a cell with a result"):
        export.main(["nothing", str(tmp_path / "x"), "--root", str(twin)])
    result = by_axes(twin)["8b-dense-cl"]
    root = tmp_path / "copy"
    shutil.copytree(twin / "cells" / result["id"], root / "cells" / result["id"])
    with pytest.raises(UserError, match="its weights are gone"):
        export.main([result["id"], str(tmp_path / "x"), "--root", str(root)])
    assert not (tmp_path / "x").exists()


def test_an_export_that_ranks_otherwise_is_refused(
    twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = by_axes(twin)["1b-dense-cl"]
    other = {"_target_": "lion_sweep.models.dense.DenseEncoder", "normalize": "tokens"}
    meant = export.meant_for
    monkeypatch.setattr(export, "meant_for", lambda cell: meant(cell) | {"encoder": other})
    with pytest.raises(UserError, match="loaded again, it ranks"):
        export.main([result["id"], str(tmp_path / "x"), "--root", str(twin)])
    assert list(tmp_path.iterdir()) == []
