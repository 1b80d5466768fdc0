"""Typed schemas of the configuration groups: units and allowed values stand here.

Hydra merges every chosen option into these classes, so an unknown key or a wrong type is refused
while composing. What no single key shows to be wrong is refused in validation.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from lion_sweep.config_data import Data, Evaluation
from lion_sweep.config_site import Site, When
from lion_sweep.errors import UserError

AXES = ("model", "paradigm", "loss")


class LadderName(Enum):
    """What 1b/3b/8b stand for."""

    proxy = "proxy"
    full = "full"


class BudgetKind(Enum):
    """What ends training: FLOPs, passes over the training pairs, steps, or GPU-hours."""

    flops = "flops"
    epochs = "epochs"
    steps = "steps"
    gpu_hours = "gpu_hours"


class Precision(Enum):
    """Number format of the forward pass; weights and optimiser stay in fp32 when it is auto."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class TrackerKind(Enum):
    """What records losses and scores besides the files."""

    wandb = "wandb"
    none = "none"


class PlanFormat(Enum):
    """What a plan is printed as."""

    table = "table"
    json = "json"
    csv = "csv"


class Normalize(Enum):
    """What a dense encoder scales to unit length: every token's state, or their mean."""

    tokens = "tokens"
    mean = "mean"


@dataclass
class ProxyShape:
    """A shrunken Llama decoder."""

    hidden_size: int = MISSING
    intermediate_size: int = MISSING
    layers: int = MISSING
    heads: int = MISSING
    key_value_heads: int = MISSING
    tied: bool = MISSING


@dataclass
class FullShape(ProxyShape):
    """A published decoder, so that it can be planned for where its files are not at hand."""

    head_dim: int = MISSING
    vocabulary: int = MISSING


@dataclass
class PerLoss:
    """A number that differs between the losses."""

    cl: int = MISSING
    kd: int = MISSING
    clkd: int = MISSING


@dataclass
class Model:
    """The size axis."""

    name: str = MISSING
    backbone: str | None = None
    full: str | None = None
    full_shape: FullShape | None = None
    proxy: ProxyShape | None = None
    epochs: PerLoss = MISSING


@dataclass
class Paradigm:
    """The representation axis."""

    name: str = MISSING
    encoder: dict[str, Any] = MISSING
    temperature: float = MISSING
    teacher_scale: float = MISSING
    regulariser: dict[str, Any] | None = None


@dataclass
class Loss:
    """The supervision axis: named terms, each with its weight."""

    name: str = MISSING
    batch_size: int = MISSING
    negatives: int = MISSING
    terms: dict[str, Any] = MISSING


@dataclass
class Teacher:
    """Who scores query-passage pairs for distillation."""

    name: str = MISSING
    encoder: str | None = None
    encoder_weight: float = 0.0
    bm25_weight: float = 1.0
    length: int = 64


@dataclass
class Anchor:
    """A reference cell, and for how many epochs it trains."""

    model: str = MISSING
    paradigm: str = MISSING
    loss: str = MISSING
    epochs: float = MISSING


@dataclass
class Budget:
    """What a cell may spend on `train`."""

    kind: BudgetKind = MISSING
    flops: float | None = None
    anchor: Anchor | None = None
    epochs: float | None = None
    steps: int | None = None
    gpu_hours: float | None = None
    tolerance: float | None = None
    confirm_gpu_hours: float = MISSING


@dataclass
class Lengths:
    """Tokens kept of each text in training."""

    query: int = MISSING
    passage: int = MISSING


@dataclass
class Lora:
    """Low-rank adapters; everything else is frozen. `resolve` makes None of rank 0."""

    rank: int = MISSING
    alpha: int = MISSING
    dropout: float = MISSING
    targets: list[str] = MISSING


@dataclass
class Adapt:
    """Masked next-token prediction before training."""

    steps: int = MISSING
    batch_size: int = MISSING
    chunk: int = MISSING
    mask_probability: float = MISSING
    learning_rate: float = MISSING
    embedding_rate: float | None = None


@dataclass
class DenseRecipe:
    """What the dense paradigm takes from the recipe."""

    normalize: Normalize = MISSING
    temperature: float = MISSING
    teacher_scale: float = MISSING


@dataclass
class SparseRecipe:
    """What the sparse paradigm takes from the recipe."""

    threshold: float = MISSING
    temperature: float = MISSING
    teacher_scale: float = MISSING
    flops_query: float = MISSING
    flops_passage: float = MISSING
    flops_ramp: float = MISSING


@dataclass
class Recipe:
    """How training runs; one option per ladder."""

    name: str = MISSING
    lengths: Lengths = MISSING
    evaluation_query_length: int = MISSING
    evaluation_passage_length: int = MISSING
    batch_size: PerLoss = MISSING
    negatives: PerLoss = MISSING
    negative_depth: int = MISSING
    micro_batch_tokens: int = MISSING
    gradient_cache: When = MISSING
    learning_rate: float = MISSING
    embedding_rate: float | None = None
    warmup: float = MISSING
    weight_decay: float = MISSING
    clip: float = MISSING
    betas: list[float] = MISSING
    epsilon: float = MISSING
    precision: Precision = MISSING
    checkpoint_every: int = MISSING
    lora: Lora | None = None
    adapt: Adapt = MISSING
    flops: float = MISSING
    flops_tolerance: float = MISSING
    dense: DenseRecipe = MISSING
    sparse: SparseRecipe = MISSING


@dataclass
class Tracking:
    """The experiment tracker."""

    kind: TrackerKind = MISSING
    project: str = MISSING
    group: str | None = None


@dataclass
class Plan:
    """How `python -m lion_sweep.plan` shows a grid."""

    format: PlanFormat = MISSING
    calibrate: bool = MISSING


class StatusFormat(Enum):
    """What `python -m lion_sweep.status` prints."""

    table = "table"
    json = "json"


@dataclass
class StatusView:
    """How `python -m lion_sweep.status` shows the cells."""

    format: StatusFormat = MISSING


@dataclass
class Paths:
    """Folders."""

    root: str = MISSING
    beir: str = MISSING


@dataclass
class Config:
    """One cell."""

    model: Model = MISSING
    paradigm: Paradigm = MISSING
    loss: Loss = MISSING
    data: Data = MISSING
    teacher: Teacher = MISSING
    budget: Budget = MISSING
    recipe: Recipe = MISSING
    evaluation: Evaluation = MISSING
    site: Site = MISSING
    tracking: Tracking = MISSING
    paths: Paths = MISSING
    plan: Plan = MISSING
    status: StatusView = MISSING
    ladder: LadderName = MISSING
    seed: int = MISSING
    confirm: bool = MISSING


def register() -> None:
    """Make the schema known to Hydra under the name that conf/config.yaml asks for."""
    ConfigStore.instance().store(name="schema", node=Config)


def config_folder() -> Path:
    """The conf/ folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def resolve(composed: DictConfig) -> Config:
    """A typed `Config` with every interpolation resolved.

    Raises `UserError` for a missing value, and for a key of no section's declaration.
    """
    try:
        config = OmegaConf.to_object(composed)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key} has no value: give it one with {key}=VALUE.") from None
    assert isinstance(config, Config)
    for path, section in _sections(config):
        declared = {field.name for field in fields(section)}
        for name, value in list(vars(section).items()):
            if name not in declared:
                key = path + name
                raise UserError(f"{key} is no setting: leave +{key} out, or correct its name.")
            if isinstance(value, dict):  # which interpolations bring enumerations into
                setattr(section, name, plain(value))
    if config.recipe.lora and config.recipe.lora.rank == 0:
        config.recipe.lora = None
    return config


def _sections(section: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(what its keys begin with, section) of a section and of all below it."""
    yield path, section
    for name, value in vars(section).items():
        if is_dataclass(value):
            yield from _sections(value, f"{path}{name}.")


def plain(value: Any) -> Any:
    """Enumerations by name, as files have them, everything else as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value
