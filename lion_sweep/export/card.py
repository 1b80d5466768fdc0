"""The model card of an exported cell."""

from typing import Any

from hydra.utils import get_class

from lion_sweep.config.recipe import Normalize
from lion_sweep.export.form import Form
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.sparse import SparseEncoder

DENSE = {
    Normalize.tokens: "the plain mean of its tokens' last states, each scaled to unit length first",
    Normalize.mean: "the mean of its tokens' last states, scaled to unit length",
}


def card(form: Form) -> str:
    """What the model is, how to use it, what it cost, how it scores."""
    config, result = form.cell.config, form.cell.result
    spent = result["ledger"]["train"]["spent"]
    warning = ["", "**PROXY: a shrunken stand-in; says nothing of models of the real sizes.**"]
    lines = [
        "---",
        f"library_name: {form.library}",
        f"base_model: {result['backbone']['name']}",
        "tags: [retrieval, lion_sweep]",
        "---",
        "",
        f"# {result['id']}",
        "",
        f"A {result['axes']['paradigm']} retriever, trained by lion_sweep on {result['data']} with "
        f"loss={result['axes']['loss']} from {result['backbone']['name']} "
        f"({result['backbone']['start']}).",
        *(warning if result["ladder"] == "proxy" else []),
        "",
        *form.usage,
        "    python -m lion_sweep.evaluate checkpoint=FOLDER data=beir data.path=COLLECTION",
        "",
        f"Texts are cut at {config.evaluation.query_length} (queries) and "
        f"{config.evaluation.passage_length} (passages) tokens, without prompts; attention is "
        f"bidirectional. {_vectors(config.paradigm.encoder)} Scores are dot products.",
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


def _vectors(encoder: dict[str, Any]) -> str:
    """What a text's vector is, in words."""
    made_by = get_class(encoder["_target_"])
    if made_by is DenseEncoder:
        return f"A text's vector is {DENSE[Normalize[encoder['normalize']]]}."
    if made_by is SparseEncoder:
        return (
            "A text's vector has a weight for every vocabulary entry: "
            f"log(1 + relu(s * z - {encoder['threshold']:g})), where z is the entry's largest "
            "logit over the text's tokens and s = hidden_size^(-1/4)."
        )
    return f"A text's vector is made by {encoder['_target_']}."
