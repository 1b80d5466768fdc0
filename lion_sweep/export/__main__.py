"""`python -m lion_sweep.export CELL FOLDER`: a finished cell as a model that others can load.

The folder gets the weights (a PEFT adapter, or the whole decoder where all of it was trained), the
tokenizer, what the vectors are (lion_sweep.json) and a model card; --as sentence-transformers makes
a model of that library of them. It is checked before it appears: loaded again, it has to rank a
sample of the cell's collection as the cell does.
"""

from pathlib import Path
from typing import Any

from lion_sweep import command
from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.errors import UserError
from lion_sweep.export import sample
from lion_sweep.export.form import Form, Weights
from lion_sweep.export.sentence import SentenceTransformers
from lion_sweep.files import read_json, write_json
from lion_sweep.interop import checkpoints
from lion_sweep.stages.finished_cell import Finished
from lion_sweep.stages.weights import MEANT_FOR, WEIGHTS

CARD = "README.md"
FORMS: dict[str, type[Form]] = {"weights": Weights, "sentence-transformers": SentenceTransformers}


def main(words: list[str]) -> int:
    """The exit status. Raises `UserError` where nothing can be exported."""
    parser = command.parser("export", __doc__)
    parser.add_argument("cell", type=Path, help="the cell's folder, or its id below ROOT/cells")
    parser.add_argument("folder", type=Path, help="where the model goes; must not exist")
    parser.add_argument(
        "--as", dest="form", choices=FORMS, default="weights", help="what loads it (%(default)s)"
    )
    asked = command.parse(parser, words)
    export(Finished.read(asked.cell, asked.root), asked.folder, FORMS[asked.form])
    print(f"{asked.folder}: the model, its card, and what its vectors are")
    return 0


def meant_for(cell: Finished) -> dict[str, Any]:
    """What the vectors are and where they come from, for programs."""
    return read_json(cell.stage("train") / WEIGHTS / MEANT_FOR) | {
        # Cells that differ in these alone share their weights, so the weights may say others.
        "query_length": cell.config.evaluation.query_length,
        "passage_length": cell.config.evaluation.passage_length,
        "base": cell.result["backbone"]["name"],
        "cell": cell.result["id"],
    }


def export(cell: Finished, folder: Path, form_of: type[Form]) -> None:
    """Write a cell's model to `folder`, which appears whole or not at all.

    Raises `UserError` where the cell's weights are gone, the folder is there already, the form
    cannot express the encoder, or the exported model ranks otherwise than the cell.
    """
    if cell.config.paradigm.made_by.per_token:
        raise UserError(
            f"{cell.name} has a vector per token, for which there is no form of export yet: "
            f"python -m lion_sweep.evaluate checkpoint={cell.name} scores it on any collection."
        )
    with command.new_folder(folder) as partial:
        checkpoint = checkpoints.of_cell(cell)
        form = form_of(cell, checkpoint)
        form.write(partial)
        write_json(partial / MEANT_FOR, meant_for(cell))
        (partial / CARD).write_text(form.card(), encoding="utf-8")
        texts = sample.of_collection(cell.config, tokenizer_of(checkpoint.source))
        ours, theirs = sample.encode(checkpoint, texts), form.vectors(partial, texts)
        if share := sample.misplaced(ours, theirs):
            raise UserError(
                f"{cell.name} cannot be exported: loaded again, it ranks {share:.1%} of a sample "
                "otherwise. Please report this."
            )


if __name__ == "__main__":
    command.quiet()
    command.run(main)
