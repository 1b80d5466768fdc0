"""What can be scored besides a cell that has just trained: where weights lie, what they are for.

a cell            its folder, or its id below paths.root/cells
an adapter        a PEFT folder or Hugging Face id; so are the study's Lion-SP and Lion-DS
a whole model     a folder or Hugging Face id of a decoder, say with its adapter merged
sentence-transformers   a folder or Hugging Face id with modules.json
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from hydra.utils import instantiate

from lion_sweep.cell.result import RESULT, Result, read_result
from lion_sweep.config import Config, read_config
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.errors import UserError
from lion_sweep.interop import adapters
from lion_sweep.machine.digests import Digests
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.encoders import Encoder
from lion_sweep.stages.base import identity
from lion_sweep.stages.weights import MEANT_FOR, WEIGHTS
from lion_sweep.stages.workshop import Workshop

# Classes that the study's adapters name in their files, and what they were trained for.
STUDY_CLASSES = {"LlamaBiForMNTP": "sparse", "LlamaBiModel": "dense"}
# Modules of sentence-transformers have folders of their own, as 1_Dense.
FOLDERS, HASHED = (".", "[0-9]*_*"), ("*.safetensors", "*.bin", "*.json")


@dataclass(frozen=True)
class Checkpoint:
    """Weights that make vectors; `identity` tells them from others, wherever they lie."""

    name: str
    kind: str
    source: str  # whose tokenizer reads the texts
    paradigm: str
    identity: dict[str, Any]
    make: Callable[[torch.dtype], Encoder]
    lengths: tuple[int, int] | None = None  # tokens of a query and of a passage, where it says so
    config: Config | None = None  # of a cell
    adapted: bool = False  # by adapters, below which weights need no more precision than products

    def load(self, shop: Workshop) -> Encoder:
        """The encoder with its weights, on this process' device."""
        encoder = self.make(shop.execution.frozen_dtype(self.adapted))
        encoder.backbone.to(shop.execution.accelerator.device)
        return encoder


def find(name: str, base: str | None, config: Config, paradigm: str | None) -> Checkpoint:
    """The checkpoint of that name; `paradigm` is what the user says it is, if anything.

    Raises `UserError` where there is none, or where it is for another paradigm.
    """
    folder = Path(name).expanduser()
    in_root = Path(config.paths.root) / "cells" / name
    for cell in (folder, in_root):
        if (cell / "result.json").is_file() and (cell / "config.yaml").is_file():
            return _checked(of_cell(cell), paradigm)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"checkpoint={name} is a file: give the folder that it lies in.")
    if _holds(name, "adapter_config.json"):
        return _checked(_adapter(name, base, config, paradigm), paradigm)
    if _holds(name, "modules.json"):
        return _checked(_sentence_transformer(name, config), paradigm)
    if _holds(name, "config.json"):
        return _checked(_whole(name, base, config, paradigm), paradigm)
    raise UserError(
        f"checkpoint={name} is neither a cell, nor a folder or Hugging Face id with "
        "adapter_config.json, modules.json or config.json. The cells are in "
        f"{in_root.parent}; without network, only what was downloaded before can be found."
    )


def _checked(found: Checkpoint, paradigm: str | None) -> Checkpoint:
    """Refuse a sparse model that is asked for dense vectors, and the reverse."""
    if paradigm and paradigm != found.paradigm:
        raise UserError(
            f"{found.name} was trained as {found.paradigm}: paradigm={paradigm} would score "
            f"vectors that it never learnt. Leave paradigm away, or say {found.paradigm}."
        )
    return found


def _holds(name: str, file: str) -> bool:
    """Whether a folder, or a repository of the Hub, has the file."""
    if Path(name).expanduser().is_dir():
        return (Path(name).expanduser() / file).is_file()
    try:
        hf_hub_download(name, file)
    except Exception:  # no such repository, no such file, no network: all mean that it is not there
        return False
    return True


def of_cell(folder: Path) -> Checkpoint:
    """A finished cell's weights. Raises `UserError` where it has no result, or they are gone."""
    if not (folder / "result.json").is_file():
        raise UserError(f"{folder} is not the folder of a cell with a result.")
    config = read_config(folder)
    result = read_result(folder / RESULT)
    stages = folder.parent.parent / "stages"
    trained = stages / result["stages"]["train"]["folder"]
    if not (trained / WEIGHTS).is_dir():
        raise UserError(
            f"{folder.name} has its result, but its weights are gone from {trained}: give the "
            "command again that trained it."
        )
    source = source_of(config, result, stages)

    lora, encoder = config.recipe.lora, config.paradigm.encoder

    def load(dtype: torch.dtype) -> Encoder:
        if lora:
            backbone = Backbone.load(source, dtype).with_adapter(trained / WEIGHTS).merged()
        else:
            backbone = Backbone.load(trained / WEIGHTS, dtype)
        return _encoder(encoder, backbone)

    known_by = {"stage": trained.name, "encoder": identity(encoder)}
    lengths = (config.evaluation.query_length, config.evaluation.passage_length)
    paradigm = config.paradigm.name
    return Checkpoint(
        folder.name, "cell", source, paradigm, known_by, load, lengths, config, lora is not None
    )


def source_of(config: Config, result: Result, stages: Path) -> str:
    """Folder or Hugging Face id of what a finished cell adapted; its tokenizer read the texts."""
    proxy = result["stages"].get("backbone")
    source = str(stages / proxy["folder"]) if proxy else config.model.backbone or config.model.full
    assert source is not None
    return source


def _adapter(name: str, base: str | None, config: Config, paradigm: str | None) -> Checkpoint:
    digests = _digests(config)
    settings, meant = adapters.settings(name), _meant_for(name)
    source = base or settings.base_model_name_or_path
    if not source:
        raise UserError(f"{name} does not say what it adapts: add base=FOLDER_OR_ID.")
    if not _holds(source, "config.json"):
        raise UserError(
            f"{name} adapts {source}, which is no folder with config.json and cannot be had from "
            f"the Hugging Face Hub: run `hf download {source}` where there is network (after "
            "`hf auth login`, if access has to be asked for), or give base=FOLDER."
        )
    named = str((settings.auto_mapping or {}).get("base_model_class"))
    trained_as = _told(name, meant.get("paradigm") or STUDY_CLASSES.get(named), paradigm)

    encoder = meant.get("encoder") or config.paradigm.encoder

    def load(dtype: torch.dtype) -> Encoder:
        backbone = adapters.load(Backbone.load(source, dtype), name)
        return _encoder(encoder, backbone.merged())

    known_by = {"adapter": _digest(name, digests), "base": _digest(source, digests)}
    known_by["encoder"] = identity(encoder)
    return Checkpoint(
        Path(name).name,
        "adapter",
        source,
        trained_as,
        known_by,
        load,
        _lengths(meant),
        adapted=True,
    )


def _whole(name: str, base: str | None, config: Config, paradigm: str | None) -> Checkpoint:
    digests = _digests(config)
    meant = _meant_for(name)
    trained_as = _told(name, meant.get("paradigm"), paradigm)
    encoder = meant.get("encoder") or config.paradigm.encoder
    return Checkpoint(
        Path(name).name,
        "model",
        base or name,  # whose tokenizer, where only weights were saved
        trained_as,
        {"model": _digest(name, digests), "encoder": identity(encoder)},
        lambda dtype: _encoder(encoder, Backbone.load(name, dtype)),
        _lengths(meant),
    )


def _told(name: str, by_itself: str | None, by_the_user: str | None) -> str:
    """The paradigm of a checkpoint; nobody guesses it."""
    found = by_itself or by_the_user
    if found is None:
        raise UserError(
            f"{name} does not say what its vectors are: add paradigm=sparse or paradigm=dense."
        )
    return found


def _lengths(meant: dict[str, Any]) -> tuple[int, int] | None:
    return (meant["query_length"], meant["passage_length"]) if "query_length" in meant else None


def _meant_for(name: str) -> dict[str, Any]:
    """What our own weights say of themselves; nothing of others."""
    path = Path(name).expanduser() / MEANT_FOR
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _sentence_transformer(name: str, config: Config) -> Checkpoint:
    digests = _digests(config)
    from lion_sweep.interop import sentence  # imports a library that is an extra

    found = sentence.describe(name)

    def load(dtype: torch.dtype) -> Encoder:
        encoder: Any = sentence.SentenceEncoder(name)  # has of a backbone what encoding needs
        return encoder

    known_by, lengths = (
        {"sentence-transformers": _digest(name, digests)},
        _lengths(_meant_for(name)),
    )
    kind, source = "sentence-transformers", found.tokenizer
    return Checkpoint(Path(name).name, kind, source, found.paradigm, known_by, load, lengths)


def _digests(config: Config) -> Digests:
    return Digests(Path(config.paths.root) / "digests")


def _encoder(settings: dict[str, Any], backbone: Backbone) -> Encoder:
    encoder: Encoder = instantiate(settings, backbone=backbone)
    return encoder


def _digest(name: str, digests: Digests) -> Any:
    """Of the weights and settings in a folder; the revision of a repository."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return Pretrained.weights(name, digests).identity
    return digests.of_folder(
        folder, [f"{part}/{pattern}" for part in FOLDERS for pattern in HASHED]
    )
