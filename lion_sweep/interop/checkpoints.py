"""What can be scored besides a cell that has just trained: where weights lie, what they are for.

a cell            its folder, or its id below paths.root/cells
an adapter        a PEFT folder or Hugging Face id; so are the study's Lion-SP and Lion-DS
a whole model     a folder or Hugging Face id of a decoder, say with its adapter merged
sentence-transformers   a folder or Hugging Face id with modules.json
ColBERTv2's       a folder or Hugging Face id with artifact.metadata
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from peft import PeftConfig, get_peft_model
from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

from lion_sweep.config import Config, TextForm
from lion_sweep.config.composing import CONFIG
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.errors import UserError
from lion_sweep.interop import colbert, sentence
from lion_sweep.interop.meant import STUDY_CLASSES, Meant
from lion_sweep.machine.digests import DIGESTS, Digests
from lion_sweep.models.backbone import ADDED, Backbone, added_in
from lion_sweep.models.encoders import Encoder
from lion_sweep.result import RESULT
from lion_sweep.stages.base import identity
from lion_sweep.stages.finished_cell import Finished
from lion_sweep.stages.finished_weights import FinishedWeights
from lion_sweep.stages.weights import encoder_of
from lion_sweep.stages.workshop import Workshop

# What names of adapters' weights have before layers.0.self_attn.q_proj.lora_A.weight. They go from
# the outermost module on, so the same layer has other names below a decoder with a head, one
# without, or a wrapper of somebody's own.
OUTERMOST = "base_model.model."  # PEFT's own two
AROUND = re.compile(r"^(.*?\.)?(?=layers\.\d+\.)")
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
    tokenizer: str | None = None  # the stage that trained its tokenizer, of a cell's stand-in
    text: TextForm = field(default_factory=TextForm)  # what one becomes before they read it
    told: Mapping[str, Any] = field(default_factory=dict)  # keys of the configuration it settles

    def load(self, shop: Workshop) -> Encoder:
        """The encoder with its weights, on this process' device."""
        encoder = self.make(shop.execution.frozen_dtype(self.adapted))
        encoder.backbone.to(shop.execution.accelerator.device)
        return encoder


def find(name: str, base: str | None, config: Config, paradigm: str | None) -> Checkpoint:
    """The checkpoint of that name; `paradigm` is what the user says it is, if anything.

    Raises `UserError` where there is none, or where it is for another paradigm.
    """
    folder, cells = Path(name).expanduser(), Path(config.paths.root) / "cells"
    whole = [c for c in (folder, cells / name) if (c / RESULT).is_file() and (c / CONFIG).is_file()]
    if whole:
        found = of_cell(Finished.read(whole[0]))
    elif folder.exists() and not folder.is_dir():
        raise UserError(f"checkpoint={name} is a file: give the folder that it lies in.")
    elif _holds(name, colbert.SETTINGS):
        found = _colbert(name, config)
    elif _holds(name, "adapter_config.json"):
        found = _adapter(name, base, config, paradigm)
    elif _holds(name, "modules.json"):
        found = _sentence_transformer(name, config)
    elif _holds(name, "config.json"):
        found = _whole(name, base, config, paradigm)
    else:
        raise UserError(
            f"checkpoint={name} is neither a cell, nor a folder or Hugging Face id with "
            "adapter_config.json, modules.json or config.json. The cells are in "
            f"{cells}; without network, only what was downloaded before can be found."
        )
    if paradigm and paradigm != found.paradigm:
        raise UserError(
            f"{found.name} was trained as {found.paradigm}: paradigm={paradigm} would score "
            f"vectors that it never learnt. Leave paradigm away, or say {found.paradigm}."
        )
    lacks = config.paradigm.projected and not (folder / ADDED).is_file()
    if lacks and found.kind in ("adapter", "model"):
        raise UserError(
            f"{name} is no folder with {ADDED}, which holds the projection that paradigm="
            f"{found.paradigm} trains: copy all that training left, or choose another paradigm."
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


def of_cell(cell: Finished) -> Checkpoint:
    """A finished cell's weights. Raises `UserError` where they are gone."""
    weights, config = FinishedWeights.of(cell), cell.config
    lengths = config.evaluation.query_length, config.evaluation.passage_length
    return Checkpoint(
        cell.name,
        "cell",
        weights.source,
        config.paradigm.name,
        identity(weights),
        weights.make,
        lengths,
        config,
        weights.adapted,
        cell.result["stages"].get("tokenizer", {}).get("folder"),
        weights.text,
    )


def _adapter(name: str, base: str | None, config: Config, paradigm: str | None) -> Checkpoint:
    settings = _settings(name)
    if settings.is_prompt_learning:
        kind = str(settings.peft_type).rpartition(".")[2].lower().replace("_", " ")
        raise UserError(
            f"{name} is {kind}, which puts vectors "
            "before a text instead of changing weights: only adapters that merge can be scored."
        )
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
    meant = Meant.of(name, config, STUDY_CLASSES.get(named) or paradigm)

    def load(dtype: torch.dtype) -> Encoder:
        backbone = _adapted(Backbone.load(source, dtype, attention=meant.attention), name)
        return encoder_of(meant.encoder, backbone)

    tokenizer = name if _holds(name, "tokenizer.json") else source
    known_by = {"adapter": _digest(name, config), "base": _digest(source, config)}
    return replace(_read_as(meant, "adapter", name, known_by, load), source=tokenizer, adapted=True)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{what} cannot be read: {str(error).splitlines()[0]}") from None


def _settings(name: str) -> PeftConfig:
    with _reading(f"{name}: its adapter_config.json"):
        return PeftConfig.from_pretrained(str(Path(name).expanduser()))


def _adapted(backbone: Backbone, name: str) -> Backbone:
    """With an adapter, merged. `UserError` where a weight of it has no place, or the reverse."""
    asked = _settings(name)
    asked.auto_mapping = asked.task_type = None  # of the class it was trained under, not ours
    asked.inference_mode = True
    with _reading(f"{name}: its weights"):
        read = load_peft_weights(str(Path(name).expanduser()), device="cpu")
    # Patterns and names count from what it was trained around: a decoder with its head, or without.
    inside = dict(backbone.decoder.named_children())
    bare = all(key.removeprefix(OUTERMOST).partition(".")[0] in inside for key in read)
    root: Any = backbone.decoder if bare else backbone.language_model
    try:
        model = get_peft_model(root, asked)
        ours = get_peft_model_state_dict(model, save_embedding_layers=False).keys()
        places = {AROUND.sub("", key): key for key in ours}
        weights = {places.get(AROUND.sub("", key), key): weight for key, weight in read.items()}
        # Embeddings and head may be saved as well, as somebody had added tokens.
        unknown = sorted(weights.keys() - ours - model.state_dict().keys())
        missing = sorted(ours - weights.keys())
        if unknown or missing:
            raise ValueError(
                f"{len(unknown)} of its weights have no place there "
                f"({', '.join(unknown[:2]) or 'none'}), {len(missing)} places get none "
                f"({', '.join(missing[:2]) or 'none'})"
            )
        set_peft_model_state_dict(model, weights)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{name} does not fit its base: {reason}. Is base= the model that it was trained on, "
            "with as many tokens?"
        ) from None
    model.merge_and_unload()  # in place
    backbone.added.update(added_in(Path(name).expanduser()))
    return backbone


def _whole(name: str, base: str | None, config: Config, paradigm: str | None) -> Checkpoint:
    meant = Meant.of(name, config, paradigm)

    def load(dtype: torch.dtype) -> Encoder:
        return encoder_of(meant.encoder, Backbone.load(name, dtype, attention=meant.attention))

    made = _read_as(meant, "model", name, {"model": _digest(name, config)}, load)
    return replace(made, source=base or name)  # whose tokenizer, where only weights were saved


def _read_as(
    meant: Meant, kind: str, name: str, weights: dict[str, Any], load: Callable[[torch.dtype], Any]
) -> Checkpoint:
    """Weights with what they are meant for; the tokenizer is their own."""
    known_by = weights | {"encoder": identity(meant.encoder), "attention": meant.attention.name}
    told = Path(name).name, kind, name, meant.paradigm, known_by, load, meant.lengths
    settled = {"paradigm.tokens": meant.tokens, "paradigm.encoder": meant.encoder}
    return Checkpoint(*told, text=meant.text, told=settled)


def _sentence_transformer(name: str, config: Config) -> Checkpoint:
    kind = "sentence-transformers"
    tokenizer, paradigm, text = sentence.describe(name)
    known_by = {kind: _digest(name, config)}

    def load(dtype: torch.dtype) -> Encoder:
        return sentence.SentenceEncoder(name)

    lengths = Meant.of(name, config, paradigm).lengths
    told = Path(name).name, kind, tokenizer, paradigm, known_by, load, lengths
    return Checkpoint(*told, text=text)


def _colbert(name: str, config: Config) -> Checkpoint:
    settings, known_by = colbert.Settings.of(name), {"colbert": _digest(name, config)}
    called, told = Path(name).name, settings.told

    def load(dtype: torch.dtype) -> Encoder:
        return colbert.load(name)

    how = colbert.PARADIGM, known_by, load, settings.lengths
    return Checkpoint(called, "colbert", name, *how, told=told)


def _digest(name: str, config: Config) -> Any:
    """Of the weights and settings in a folder; the revision of a repository."""
    folder, digests = Path(name).expanduser(), Digests(Path(config.paths.root) / DIGESTS)
    if not folder.is_dir():
        return Pretrained.weights(name, digests).identity
    hashed = [f"{part}/{pattern}" for part in FOLDERS for pattern in HASHED]
    return digests.of_folder(folder, hashed)
