"""What a form of export has to say, and the plain one: the weights as they were trained."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path

from lion_sweep.config import Config, TextForm
from lion_sweep.config.classes import class_named
from lion_sweep.config.ladder import CAVEATS
from lion_sweep.config.recipe import Normalize, Pooling
from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.export.sample import Sample, Vectors, encode
from lion_sweep.interop import checkpoints
from lion_sweep.interop.checkpoints import Checkpoint
from lion_sweep.models.backbone import ADDED
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.stages.finished_cell import Finished
from lion_sweep.stages.weights import WEIGHTS

DENSE = {
    Normalize.tokens: "the plain mean of {of} tokens' last states, each of unit length first",
    Normalize.mean: "the mean of {of} tokens' last states, scaled to unit length",
}


class Form(ABC):
    """One way to write a cell down for others."""

    library: str  # what loads it, as the Hub calls it
    usage = ""  # lines of the card: how to load it from a folder called FOLDER

    def __init__(self, cell: Finished, checkpoint: Checkpoint) -> None:
        self.cell, self.checkpoint = cell, checkpoint

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write weights, tokenizer and settings to an empty folder."""

    @abstractmethod
    def vectors(self, folder: Path, sample: Sample) -> Vectors:
        """What whoever loads the folder gets for the texts of a sample."""

    def card(self) -> str:
        """The model card: what the model is, how to use it, what it cost, how it scores."""
        config, result = self.cell.config, self.cell.result
        spent, axes = result["ledger"]["train"]["spent"], result["axes"]
        caveat = CAVEATS.get(result["ladder"])
        rows = []
        for name, means in result["scores"].items():
            for measure, value in means.items():
                reference = result["bm25"].get(name, {}).get(measure)
                shown = "-" if reference is None else f"{reference:.4f}"
                rows.append(f"| {name} | {measure} | {value:.4f} | {shown} |\n")
        return f"""\
---
library_name: {self.library}
base_model: {result["backbone"]["name"]}
tags: [retrieval, lion_sweep]
---

# {result["id"]}

A {axes["paradigm"]} retriever, trained by lion_sweep on {result["data"]} with loss={axes["loss"]} \
from {result["backbone"]["name"]} ({result["backbone"]["start"]}).
{f"{chr(10)}{caveat.card}{chr(10)}" if caveat else ""}
{self.usage}\
    python -m lion_sweep.evaluate checkpoint=FOLDER data=beir data.path=COLLECTION

Texts are cut at {config.evaluation.query_length} (queries) and \
{config.evaluation.passage_length} (passages) tokens, {_around(config.paradigm.text)}; attention \
is {config.paradigm.attention}. {_vectors(config)} Scores are dot products.

| trained with | |
| --- | --- |
| steps | {spent["steps"]:,} |
| tokens | {spent["tokens"]:,} |
| useful FLOPs | {spent["useful_flops"]:.4g} |
| seed | {result["seed"]} |
| precision | {result["precision"]} |

| collection | measure | score | BM25 |
| --- | --- | --- | --- |
{"".join(rows)}"""


class Weights(Form):
    """A PEFT adapter, or the whole decoder, as training wrote it, and the tokenizer beside it."""

    def __init__(self, cell: Finished, checkpoint: Checkpoint) -> None:
        super().__init__(cell, checkpoint)
        self.library = "peft" if cell.config.recipe.lora else "transformers"

    def write(self, folder: Path) -> None:
        """Copy the weights."""
        shutil.copytree(self.cell.stage("train") / WEIGHTS, folder, dirs_exist_ok=True)
        tokenizer_of(self.checkpoint.source).save_pretrained(str(folder))

    def vectors(self, folder: Path, sample: Sample) -> Vectors:
        """As `python -m lion_sweep.evaluate` would load the folder."""
        config = self.cell.config
        base = self.checkpoint.source if config.recipe.lora else None
        return encode(checkpoints.find(str(folder), base, config, config.paradigm.name), sample)


def _around(text: TextForm) -> str:
    """What stands around a text, in words."""
    query, passage = text.query_prompt, text.passage_prompt
    told = f"after the prompts {query!r} and {passage!r}" if query + passage else "without prompts"
    if not text.special_tokens:
        told += ", without special tokens of the tokenizer"
    if text.append_eos:
        told += ", with the end-of-sequence token last"
    return told + (", every one twice, both copies within that" if text.echo else "")


def _vectors(config: Config) -> str:
    """What a text's vector is, in words."""
    encoder = config.paradigm.encoder
    made_by, echo = class_named(encoder["_target_"]), encoder.get("echo", False)
    of = "the second copy's" if echo else "its"
    if made_by is DenseEncoder:
        if encoder.get("pooling") == Pooling.last:
            return "A text's vector is its last token's last state, scaled to unit length."
        how = DENSE[Normalize[encoder["normalize"]]].format(of=of)
        return f"A text's vector is {how}."
    if made_by is SparseEncoder:
        scale, first = encoder.get("logit_scale"), encoder.get("pool_bos", True)
        s = "hidden_size^(-1/4)" if scale is None else scale
        by = " by the embedding matrix" if encoder.get("tied") else ""
        left_out = "" if first or echo else ", the one that begins it left out"
        centred = f", less that of `level` and the entry's `centre`, both in {ADDED}"
        less = centred if config.recipe.adapt.centre else ""
        return (
            "A text's vector has a weight for every vocabulary entry: "
            f"log(1 + relu(s * z - {encoder['threshold']:g})), where s = {s} and z is the entry's "
            f"largest logit{by} over {of} tokens{left_out}{less}."
        )
    return f"A text's vector is made by {encoder['_target_']}."
