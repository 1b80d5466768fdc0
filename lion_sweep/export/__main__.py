"""`python -m lion_sweep.export CELL FOLDER`: a finished cell as a model that others can load.

The folder gets the weights (a PEFT adapter, or the whole decoder where all of it was trained), the
tokenizer, what the vectors are (lion_sweep.json) and a model card; --as sentence-transformers makes
a model of that library of them. It is checked before it appears: loaded again, it has to rank a
sample of the cell's collection as the cell does.
"""

import argparse
import shutil
import sys
from pathlib import Path

import transformers

from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.errors import UserError
from lion_sweep.export import sample
from lion_sweep.export.card import card
from lion_sweep.export.form import Finished, Form
from lion_sweep.export.sentence import SentenceTransformers
from lion_sweep.export.weights import Weights
from lion_sweep.files import write_json
from lion_sweep.stages.weights import MEANT_FOR

CARD = "README.md"
FORMS: dict[str, type[Form]] = {"weights": Weights, "sentence-transformers": SentenceTransformers}


def main(words: list[str]) -> int:
    """The exit status: 0, or 2 where nothing can be exported."""
    parser = argparse.ArgumentParser(prog="python -m lion_sweep.export", description=__doc__)
    parser.add_argument("cell", type=Path, help="the cell's folder, or its id below ROOT/cells")
    parser.add_argument("folder", type=Path, help="where the model goes; must not exist")
    parser.add_argument("--root", type=Path, default=Path("outputs"), help="paths.root of the cell")
    parser.add_argument(
        "--as", dest="form", choices=FORMS, default="weights", help="what loads it (%(default)s)"
    )
    asked = parser.parse_args(words)
    cell = asked.cell if asked.cell.is_dir() else asked.root / "cells" / asked.cell
    try:
        export(cell, asked.folder, FORMS[asked.form])
    except (UserError, OSError) as error:
        print(f"lion_sweep: {error}", file=sys.stderr)
        return 2
    print(f"{asked.folder}: the model, its card, and what its vectors are")
    return 0


def export(cell: Path, folder: Path, form_of: type[Form]) -> None:
    """Write a cell's model to `folder`, which appears whole or not at all.

    Raises `UserError` where the cell is not finished, the folder is there already, the form cannot
    express the encoder, or the exported model ranks otherwise than the cell.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: choose another folder, or remove it.")
    finished = Finished.read(cell)
    form = form_of(finished)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        form.write(partial)
        write_json(partial / MEANT_FOR, finished.meant_for())
        (partial / CARD).write_text(card(form), encoding="utf-8")
        tokenizer = tokenizer_of(finished.checkpoint.source)
        texts = sample.of_collection(finished.config, tokenizer)
        ours, theirs = sample.encode(finished.checkpoint, texts), form.vectors(partial, texts)
        if share := sample.misplaced(ours, theirs):
            raise UserError(
                f"{cell.name} cannot be exported: loaded again, it ranks {share:.1%} of a sample "
                "otherwise. Please report this."
            )
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    raise SystemExit(main(sys.argv[1:]))
