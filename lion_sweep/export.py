"""`python -m lion_sweep.export CELL FOLDER`: a finished cell as a model that others can load.

The folder gets the weights (a PEFT adapter, or the whole decoder where all of it was trained), the
tokenizer, what the vectors are (lion_sweep.json) and a model card. It is checked before it appears:
loaded again, it has to rank a sample of the cell's collection exactly as the cell does.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from lion_sweep import checkpoints, prepare
from lion_sweep.checkpoints import Checkpoint
from lion_sweep.config import Config
from lion_sweep.data.batches import pad
from lion_sweep.data.collection import Collection
from lion_sweep.errors import UserError
from lion_sweep.pipeline import MEANT_FOR, WEIGHTS
from lion_sweep.prepare import Workshop
from lion_sweep.progress import Progress
from lion_sweep.stage import write_json

CARD = "README.md"
SAMPLED_PASSAGES, SAMPLED_QUERIES, COMPARED = 500, 50, 100


def main(words: list[str]) -> int:
    """The exit status: 0, or 2 where nothing can be exported."""
    parser = argparse.ArgumentParser(prog="python -m lion_sweep.export", description=__doc__)
    parser.add_argument("cell", type=Path, help="the cell's folder, or its id below ROOT/cells")
    parser.add_argument("folder", type=Path, help="where the model goes; must not exist")
    parser.add_argument("--root", type=Path, default=Path("outputs"), help="paths.root of the cell")
    asked = parser.parse_args(words)
    cell = asked.cell if asked.cell.is_dir() else asked.root / "cells" / asked.cell
    try:
        export(cell, asked.folder)
    except (UserError, OSError) as error:
        print(f"lion_sweep: {error}", file=sys.stderr)
        return 2
    print(f"{asked.folder}: the model, its card, and what its vectors are")
    return 0


def export(cell: Path, folder: Path) -> None:
    """Write a cell's model to `folder`, which appears whole or not at all.

    Raises `UserError` where the cell is not finished, the folder is there already, or the exported
    model ranks otherwise than the cell.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: choose another folder, or remove it.")
    found = checkpoints.of_cell(cell)
    config, result = found.config, json.loads((cell / "result.json").read_text(encoding="utf-8"))
    assert config is not None
    config.paths.root = str(cell.parent.parent)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    weights = cell.parent.parent / "stages" / result["stages"]["train"]["folder"] / WEIGHTS
    try:
        shutil.copytree(weights, partial)
        prepare.tokenizer_of(found.source).save_pretrained(str(partial))
        write_json(partial / MEANT_FOR, _meant_for(partial, result))
        (partial / CARD).write_text(card(config, result), encoding="utf-8")
        base = found.source if config.recipe.lora else None
        again = checkpoints.find(str(partial), base, config, config.paradigm.name)
        _check(found, again, config)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _meant_for(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What the weights tell of their vectors, and where they come from."""
    told: dict[str, Any] = json.loads((folder / MEANT_FOR).read_text(encoding="utf-8"))
    return told | {"base": result["backbone"]["name"], "cell": result["id"]}


def _check(cell: Checkpoint, exported: Checkpoint, config: Config) -> None:
    """Refuse an export whose best passages are others than the cell's, on a sample."""
    workshop = Workshop(config, Progress(cell.name, None))
    collection, split = prepare.evaluation_sets(workshop)[config.data.name]
    ours, theirs = (
        _ranked(checkpoint, collection, split, config) for checkpoint in (cell, exported)
    )
    if not np.array_equal(ours, theirs):
        raise UserError(
            f"{cell.name} cannot be exported: loaded again, it ranks {np.mean(ours != theirs):.1%} "
            "of a sample otherwise. Please report this."
        )


@torch.no_grad()
def _ranked(
    checkpoint: Checkpoint, collection: Collection, split: str, config: Config
) -> NDArray[np.int64]:
    """Rows of the best sampled passages of the sampled queries, [queries, COMPARED]."""
    tokenizer = prepare.tokenizer_of(checkpoint.source)
    encoder = checkpoint.load(torch.float32)
    encoder.backbone.eval()
    queries = collection.queries.of(collection.asked(split)[:SAMPLED_QUERIES])
    passages = next(collection.documents.batches())[:SAMPLED_PASSAGES]

    def vectors(texts: list[str], length: int) -> NDArray[np.float32]:
        encoded = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
        rows = []
        for ids in encoded:  # one by one: sums of a batch depend on what else is in it
            kept = np.asarray(ids or [tokenizer.pad_token_id or 0], dtype=np.int32)
            rows.append(encoder(*pad([kept], torch.device("cpu"))).numpy()[0])
        return np.stack(rows)

    evaluation = config.evaluation
    scores = (
        vectors(queries, evaluation.query_length) @ vectors(passages, evaluation.passage_length).T
    )
    return np.argsort(-scores, axis=1, kind="stable")[:, :COMPARED]


def card(config: Config, result: dict[str, Any]) -> str:
    """The model card: what it is, how to use it, what it cost, how it scores."""
    spent = result["ledger"]["train"]["spent"]
    proxy = result["ladder"] == "proxy"
    lines = [
        "---",
        "library_name: peft" if config.recipe.lora else "library_name: transformers",
        f"base_model: {result['backbone']['name']}",
        "tags: [retrieval, lion_sweep]",
        "---",
        "",
        f"# {result['id']}",
        "",
        f"A {result['axes']['paradigm']} retriever, trained by lion_sweep on {result['data']} with "
        f"loss={result['axes']['loss']} from {result['backbone']['name']} "
        f"({result['backbone']['start']}).",
        *(
            ["", "**PROXY: a shrunken stand-in; says nothing of models of the real sizes.**"]
            * proxy
        ),
        "",
        "    python -m lion_sweep.evaluate checkpoint=FOLDER data=beir data.path=COLLECTION",
        "",
        f"Texts are cut at {config.evaluation.query_length} (queries) and "
        f"{config.evaluation.passage_length} (passages) tokens, without prompts; attention is "
        f"bidirectional; vectors are made by `{config.paradigm.encoder}`, scores are dot products.",
        "",
        "| trained with | |",
        "| --- | --- |",
        f"| steps | {spent['steps']:,} |",
        f"| tokens | {spent['tokens']:,} |",
        f"| useful FLOPs | {spent['useful_flops']:.4g} |",
        f"| seed | {result['seed']} |",
        f"| precision | {result['precision']} |",
        "",
        "| collection | measure | score | BM25 |",
        "| --- | --- | --- | --- |",
    ]
    for name, means in result["scores"].items():
        for measure, value in means.items():
            reference = result["bm25"].get(name, {}).get(measure)
            shown = "-" if reference is None else f"{reference:.4f}"
            lines.append(f"| {name} | {measure} | {value:.4f} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    raise SystemExit(main(sys.argv[1:]))
