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

import hydra
import torch
import transformers
from accelerate import Accelerator
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lion_sweep import checkpoints, prepare, site
from lion_sweep import config as configuration
from lion_sweep.checkpoints import Checkpoint
from lion_sweep.config import Config, plain
from lion_sweep.config_site import SiteName
from lion_sweep.data.collection import Collection
from lion_sweep.errors import UserError
from lion_sweep.evaluating import Evaluator, keep
from lion_sweep.evaluation.measures import mean
from lion_sweep.prepare import Workshop
from lion_sweep.progress import Progress
from lion_sweep.scoring import bm25
from lion_sweep.stage import key_of, write_json

OWN = ("checkpoint", "base", "format")
FORMATS = ("table", "json")
LENGTHS = ("query_length", "passage_length")
# What a checkpoint that is no cell was trained with is not known: the study's lengths are taken.
STUDY = "ladder=full"


def main(words: list[str]) -> int:
    """The exit status: 0, or 2 where nothing can be scored."""
    own = {key: value for key, equals, value in (w.partition("=") for w in words) if key in OWN}
    overrides = [word for word in words if word.partition("=")[0] not in OWN]
    try:
        if "checkpoint" not in own:
            raise UserError(f"checkpoint= is missing.\n\n{__doc__}")
        if (form := own.get("format", "table")) not in FORMATS:
            raise UserError(f"format={form} is not one of {', '.join(FORMATS)}.")
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the result's alone
            result = evaluate(own["checkpoint"], own.get("base"), overrides)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        print(f"lion_sweep: {str(error).strip()}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2) if form == "json" else table(result))
    return 0


def evaluate(name: str, base: str | None, overrides: list[str]) -> dict[str, Any]:
    """Score a checkpoint on everything that the overrides name; returns and writes its result."""
    config, paradigm = _composed(overrides), _said(overrides, "paradigm")
    site.check_output(Path(config.paths.root))
    site.check_engines(config.evaluation)
    machine, _ = site.choose(SiteName.gpu if torch.cuda.is_available() else SiteName.laptop)
    found = checkpoints.find(name, base, config, paradigm)
    if found.config is None:
        chosen = [word for word in (STUDY,) if not _said(overrides, "ladder", "recipe")]
        config = _composed([*chosen, *overrides, f"paradigm={found.paradigm}"])
        found = checkpoints.find(name, base, config, paradigm)
    for key, length in zip(LENGTHS, found.lengths or (), strict=False):
        if not _said(overrides, f"evaluation.{key}"):
            setattr(config.evaluation, key, length)
    config.data.train_split = config.data.test_split  # nothing is trained
    workshop = Workshop(config, Progress(found.name, None))
    evaluator = _evaluator(found, workshop, config, machine)
    return _scored(found, evaluator, prepare.evaluation_sets(workshop), workshop)


def _composed(overrides: list[str]) -> Config:
    configuration.register()
    folder = str(configuration.config_folder())
    with hydra.initialize_config_dir(folder, version_base="1.3"):
        return configuration.resolve(hydra.compose("config", overrides=overrides))


def _said(overrides: list[str], *keys: str) -> str | None:
    """The value of the last override of one of these keys."""
    values = [v for k, _, v in (word.partition("=") for word in overrides) if k in keys]
    return values[-1] if values else None


def _evaluator(
    found: Checkpoint, workshop: Workshop, config: Config, machine: SiteName
) -> Evaluator:
    recipe = (found.config or config).recipe
    precision = site.precision(recipe.precision, machine)
    accelerator = Accelerator(cpu=machine is SiteName.laptop, mixed_precision=precision)
    # As in training: below an adapter, weights need no more precision than their products.
    adapted = found.kind == "adapter" or (found.config and recipe.lora)
    dtype = torch.bfloat16 if adapted and precision == "bf16" else torch.float32

    def load() -> Any:
        encoder = found.load(dtype)
        encoder.backbone.to(accelerator.device)
        return encoder

    identity = found.identity | {"encoder": plain((found.config or config).paradigm.encoder)}
    if found.config is None:  # a cell's is its recipe's, under which its weights are kept
        identity |= {"precision": precision}
    return Evaluator(
        workshop,
        accelerator,
        found.source,
        load,
        identity,
        is_sparse=found.paradigm == "sparse",
    )


def _scored(
    found: Checkpoint,
    evaluator: Evaluator,
    sets: dict[str, tuple[Collection, str]],
    workshop: Workshop,
) -> dict[str, Any]:
    config = workshop.config
    contents = {name: collection.checksum for name, (collection, _) in sets.items()}
    specification = [evaluator.identity, plain(asdict(config.evaluation)), contents]
    folder = Path(config.paths.root) / "evaluated" / f"{found.name}-{key_of(specification)}"
    tested = {name: evaluator.on(*chosen) for name, chosen in sets.items()}
    references = {name: bm25(workshop, *chosen) for name, chosen in sets.items()}
    keep(folder, tested, references)
    result = {
        "checkpoint": found.name,
        "kind": found.kind,
        "paradigm": found.paradigm,
        "identity": found.identity,
        "folder": str(folder),
        "scores": {name: mean(of_set.scores) for name, of_set in tested.items()},
        "bm25": {name: mean(scores) for name, scores in references.items()},
        "efficiency": {name: of_set.efficiency() for name, of_set in tested.items()},
        "collections": {
            name: {
                "checksum": collection.checksum,
                "documents": len(collection.documents),
                "queries": len(collection.asked(split)),
            }
            for name, (collection, split) in sets.items()
        },
    }
    write_json(folder / "result.json", result)
    return result


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
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    raise SystemExit(main(sys.argv[1:]))
