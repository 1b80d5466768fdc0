"""What can be scored besides a cell that has just trained: where weights lie, what they are for.

a cell            its folder, or its id below paths.root/cells
an adapter        a PEFT folder or Hugging Face id; so are the study's Lion-SP and Lion-DS
a whole model     a folder or Hugging Face id of a decoder, say with its adapter merged
sentence-transformers   a folder or Hugging Face id with modules.json
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from hydra.utils import instantiate

from lion_sweep.cell.result import RESULT
from lion_sweep.config import Config
from lion_sweep.config.composing import CONFIG
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.errors import UserError
from lion_sweep.files import read_json
from lion_sweep.interop import adapters
from lion_sweep.interop.finished import Finished
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
    found = _found(name, base, config, paradigm)
    if paradigm and paradigm != found.paradigm:
        raise UserError(
            f"{found.name} was trained as {found.paradigm}: paradigm={paradigm} would score "
            f"vectors that it never learnt. Leave paradigm away, or say {found.paradigm}."
        )
    return found


def _found(name: str, base: str | None, config: Config, paradigm: str | None) -> Checkpoint:
    folder = Path(name).expanduser()
    in_root = Path(config.paths.root) / "cells" / name
    for cell in (folder, in_root):
        if (cell / RESULT).is_file() and (cell / CONFIG).is_file():
            return of_cell(Finished.read(cell))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"checkpoint={name} is a file: give the folder that it lies in.")
    if _holds(name, "adapter_config.json"):
        return _adapter(name, base, config, paradigm)
    if _holds(name, "modules.json"):
        return _sentence_transformer(name, config)
    if _holds(name, "config.json"):
        return _whole(name, base, config, paradigm)
    raise UserError(
        f"checkpoint={name} is neither a cell, nor a folder or Hugging Face id with "
        "adapter_config.json, modules.json or config.json. The cells are in "
        f"{in_root.parent}; without network, only what was downloaded before can be found."
    )


def _holds(name: str, file: str) -> bool:
    """Whether a folder, or a repository of the Hub, has the file."""
    if Path(name).expanduser().is_dir():
        return (Path(name).expanduser() / file).is_file()
    try:
        hf_hub_download(name, file)
    except Exception:  # no such repository, no such file, no network: all mean that it is not there
        return False
    return True


def of_cell(cell: Finished) -> Checkpoint:
    """A finished cell's weights. Raises `UserError` where they are gone."""
    config, trained = cell.config, cell.stage("train")
    if not (trained / WEIGHTS).is_dir():
        raise UserError(
            f"{cell.name} has its result, but its weights are gone from {trained}: give the "
            "command again that trained it."
        )
    source, adapted, paradigm = cell.source, config.recipe.lora is not None, config.paradigm

    def load(dtype: torch.dtype) -> Encoder:
        if adapted:
            backbone = Backbone.load(source, dtype).with_adapter(trained / WEIGHTS).merged()
        else:
            backbone = Backbone.load(trained / WEIGHTS, dtype)
        return _encoder(paradigm.encoder, backbone)

    known_by = {"stage": trained.name, "encoder": identity(paradigm.encoder)}
    lengths = config.evaluation.query_length, config.evaluation.passage_length
    return Checkpoint(
        cell.name, "cell", source, paradigm.name, known_by, load, lengths, config, adapted
    )


def _adapter(name: str, base: str | None, config: Config, paradigm: str | None) -> Checkpoint:
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
    told = _told(name, meant.get("paradigm") or STUDY_CLASSES.get(named), paradigm)
    encoder = meant.get("encoder") or config.paradigm.encoder

    def load(dtype: torch.dtype) -> Encoder:
        return _encoder(encoder, adapters.load(Backbone.load(source, dtype), name).merged())

    known_by = {"adapter": _digest(name, config), "base": _digest(source, config)}
    known_by["encoder"] = identity(encoder)
    called, lengths = Path(name).name, _lengths(meant)
    return Checkpoint(called, "adapter", source, told, known_by, load, lengths, adapted=True)


def _whole(name: str, base: str | None, config: Config, paradigm: str | None) -> Checkpoint:
    meant = _meant_for(name)
    encoder = meant.get("encoder") or config.paradigm.encoder

    def load(dtype: torch.dtype) -> Encoder:
        return _encoder(encoder, Backbone.load(name, dtype))

    source = base or name  # whose tokenizer, where only weights were saved
    told, lengths = _told(name, meant.get("paradigm"), paradigm), _lengths(meant)
    known_by = {"model": _digest(name, config), "encoder": identity(encoder)}
    return Checkpoint(Path(name).name, "model", source, told, known_by, load, lengths)


def _sentence_transformer(name: str, config: Config) -> Checkpoint:
    from lion_sweep.interop import sentence  # imports a library that is an extra

    def load(dtype: torch.dtype) -> Encoder:
        return sentence.SentenceEncoder(name)

    kind = "sentence-transformers"
    tokenizer, paradigm = sentence.describe(name)
    known_by, lengths = {kind: _digest(name, config)}, _lengths(_meant_for(name))
    return Checkpoint(Path(name).name, kind, tokenizer, paradigm, known_by, load, lengths)


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
    return read_json(path) if path.is_file() else {}


def _encoder(settings: dict[str, Any], backbone: Backbone) -> Encoder:
    encoder: Encoder = instantiate(settings, backbone=backbone)
    return encoder


def _digest(name: str, config: Config) -> Any:
    """Of the weights and settings in a folder; the revision of a repository."""
    folder, digests = Path(name).expanduser(), Digests(Path(config.paths.root) / "digests")
    if not folder.is_dir():
        return Pretrained.weights(name, digests).identity
    hashed = [f"{part}/{pattern}" for part in FOLDERS for pattern in HASHED]
    return digests.of_folder(folder, hashed)
