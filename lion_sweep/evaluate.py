"""`python -m lion_sweep.evaluate checkpoint=...`: score what was trained here or elsewhere.

checkpoint=...  a cell's folder or id, a PEFT adapter, a whole model, a sentence-transformers
                model: folders or Hugging Face ids
base=...        the model that an adapter adapts, where its own file names another place
format=table    or json, on stdout
anything else   the overrides of `python -m lion_sweep`: data=, evaluation=, paradigm=, ...
"""

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lion_sweep import command
from lion_sweep.config import Config, changed
from lion_sweep.config.secrets import refuse_secrets
from lion_sweep.config.site import SiteName
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.errors import UserError
from lion_sweep.evaluation.measures import mean
from lion_sweep.files import key_of, write_json
from lion_sweep.interop import checkpoints
from lion_sweep.interop.checkpoints import Checkpoint
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.site import check_output, choose, settle
from lion_sweep.stages.backbone import TrainTokenizer
from lion_sweep.stages.base import Stage
from lion_sweep.stages.contract import check_form, lengths_of
from lion_sweep.stages.of_cell import Tokeniser, scored
from lion_sweep.stages.search import bm25, keep, made_of
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.validation import check_engines
from lion_sweep.stages.workshop import Workshop

OWN = ("checkpoint", "base", "format")
FORMATS = ("table", "json")
LENGTHS = ("query_length", "passage_length")
# What a checkpoint that is no cell was trained with is not known: the study's lengths are taken.
STUDY = ("ladder=full", "recipe=lion")


def main(words: list[str]) -> int:
    """The exit status. Raises `UserError` where nothing can be scored."""
    made = command.parser("evaluate", __doc__)
    made.add_argument("words", nargs="*", metavar="KEY=VALUE", help="see above")
    asked = command.parse(made, words)
    words = [f"paths.root={asked.root}", *asked.words]
    own = {key: value for key, equals, value in (w.partition("=") for w in words) if key in OWN}
    overrides = [word for word in words if word.partition("=")[0] not in OWN]
    if "checkpoint" not in own:
        raise UserError("checkpoint= is missing: say checkpoint=FOLDER, a cell's id or a model's.")
    if (form := own.get("format", "table")) not in FORMATS:
        raise UserError(f"format={form} is not one of {', '.join(FORMATS)}.")
    with contextlib.redirect_stdout(sys.stderr):  # stdout is the result's alone
        result = evaluate(own["checkpoint"], own.get("base"), overrides)
    print(json.dumps(result, indent=2) if form == "json" else table(result))
    return 0


def evaluate(name: str, base: str | None, overrides: list[str]) -> dict[str, Any]:
    """Score a checkpoint on everything that the overrides name; returns and writes its result."""
    config, paradigm = command.composed(overrides), _said(overrides, "paradigm")
    config.data.check("data")
    config.evaluation.check("evaluation")
    check_output(Path(config.paths.root))
    config.check("")
    refuse_secrets(config)
    check_engines(config)
    machine, _ = choose(SiteName.gpu if torch.cuda.is_available() else SiteName.laptop)
    found = checkpoints.find(name, base, config, paradigm)
    if found.config is None:
        chosen = () if _said(overrides, "ladder", "recipe") else STUDY
        config = command.composed([*chosen, *overrides, f"paradigm={found.paradigm}"])
        found = checkpoints.find(name, base, config, paradigm)
    config = settle(_asked(found, config, overrides), machine)
    how = Execution.of(config, machine)
    return _scored(
        found, config, Workshop(Path(config.paths.root), Progress(found.name, None), how)
    )


def _asked(found: Checkpoint, config: Config, overrides: list[str]) -> Config:
    """The configuration with what the checkpoint says of itself, and nothing to train."""
    values: dict[str, Any] = {"data.train_split": config.data.test_split, "site.devices": 1}
    for key, length in zip(LENGTHS, found.lengths or (), strict=False):
        if not _said(overrides, f"evaluation.{key}"):
            values[f"evaluation.{key}"] = length
    if found.config:
        values["paradigm"] = found.config.paradigm
        values["recipe.precision"] = found.config.recipe.precision
    return changed(config, values | dict(found.told))


def _said(overrides: list[str], *keys: str) -> str | None:
    """The value of the last override of one of these keys."""
    values = [v for k, _, v in (word.partition("=") for word in overrides) if k in keys]
    return values[-1] if values else None


def _scored(found: Checkpoint, config: Config, shop: Workshop) -> dict[str, Any]:
    sets = evaluation_sets(config, shop)
    for name, (source, _) in sets.items():
        for line in source.read(shop).told():
            shop.progress.say(f"{name}:{line}")
    reads = _tokenizer(found, shop)
    check_form(found.text, reads, shop, lengths_of(config, training=False))
    tokeniser = Tokeniser(reads)
    tested = {name: scored(config, tokeniser, found, chosen) for name, chosen in sets.items()}
    references = {name: bm25(config, *chosen) for name, chosen in sets.items()}
    scores = {name: of_set.run(shop) for name, of_set in tested.items()}
    made = made_of(tested.values(), references.values())
    key = key_of([of_set.score.name for of_set in tested.values()])
    folder = shop.root / "evaluated" / f"{found.name}-{key}"
    keep(shop, folder, tested, references)
    result = {
        "checkpoint": found.name,
        "kind": found.kind,
        "paradigm": found.paradigm,
        "identity": found.identity,
        "text": asdict(found.text),
        "folder": str(folder),
        "stages": {title: {"folder": one.name} for title, one in made.items()},
        "scores": {name: mean(values) for name, values in scores.items()},
        "bm25": {name: mean(score.scores(shop)) for name, score in references.items()},
        "entropy": {name: of_set.entropy.mean(shop) for name, of_set in tested.items()},
        "temperature": config.paradigm.temperature,  # which entropies are of
        "efficiency": {name: of_set.efficiency(shop) for name, of_set in tested.items()},
        "topk": {name: of_set.curve(shop) for name, of_set in tested.items() if of_set.topk},
        "collections": {name: one.read(shop).facts(split) for name, (one, split) in sets.items()},
    }
    write_json(folder / "result.json", result)
    return result


def _tokenizer(found: Checkpoint, shop: Workshop) -> Pretrained | Stage:
    """Known as it is to the cell that it is of, where that can be told: tokens and vectors that are
    there are found then."""
    config = found.config
    if config and found.tokenizer:
        with contextlib.suppress(UserError):  # its own collection is not at hand
            sets = evaluation_sets(changed(config, {"evaluation.sets": {}}), shop)
            own, _ = sets[config.data.name]
            stage = TrainTokenizer(own.judged[config.data.train_split])
            if stage.name == found.tokenizer and shop.find(stage):
                return stage
    return Pretrained.tokenizer(found.source, shop.digests)


def table(result: dict[str, Any]) -> str:
    """Lines of the scores, BM25's beside them."""
    lines = [f"{result['checkpoint']}: {result['kind']}, {result['paradigm']}", ""]
    lines.append(f"{'collection':<20} {'measure':<20} {'score':>7} {'BM25':>7}")
    for name, means in result["scores"].items():
        for measure, value in means.items():
            reference = result["bm25"][name][measure]
            lines.append(f"{name:<20} {measure:<20} {value:7.4f} {reference:7.4f}")
    return "\n".join([*lines, "", f"runs and values per query: {result['folder']}"])


if __name__ == "__main__":
    command.quiet()
    command.run(main)
