"""Typed schemas of the configuration groups: units and allowed values stand here.

Hydra merges every chosen option into these classes, so an unknown key or a wrong type is refused
while composing. `validate` then refuses combinations that no single key shows to be wrong.
"""

import inspect
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import get_class
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from lion_sweep.errors import UserError

AXES = ("model", "paradigm", "loss")


class LadderName(Enum):
    """What 1b/3b/8b stand for."""

    proxy = "proxy"
    full = "full"


class DataKind(Enum):
    """Where a collection comes from."""

    pydoc = "pydoc"
    beir = "beir"


class BudgetKind(Enum):
    """What ends training: spent FLOPs, or a number of steps."""

    flops = "flops"
    steps = "steps"


class SiteName(Enum):
    """Where stages run."""

    auto = "auto"
    laptop = "laptop"
    gpu = "gpu"


class Precision(Enum):
    """Number format of the forward pass; weights and optimiser stay in fp32 when it is auto."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class TrackerKind(Enum):
    """What records losses and scores besides the files."""

    wandb = "wandb"
    none = "none"


class SparseEngine(Enum):
    """What searches sparse vectors."""

    exact = "exact"
    lucene = "lucene"


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
class Model:
    """The size axis."""

    name: str = MISSING
    backbone: str | None = None
    full: str | None = None
    proxy: ProxyShape | None = None


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
    negatives: int = MISSING
    terms: dict[str, Any] = MISSING


@dataclass
class Data:
    """A collection: corpus, queries, qrels."""

    name: str = MISSING
    kind: DataKind = MISSING
    packages: list[str] = field(default_factory=list)
    path: str | None = None
    train_split: str = "train"
    test_split: str = "test"


@dataclass
class Teacher:
    """Who scores query-passage pairs for distillation."""

    name: str = MISSING
    encoder: str | None = None
    encoder_weight: float = 0.0
    bm25_weight: float = 1.0
    length: int = 64


@dataclass
class Budget:
    """What a cell may spend on `train`."""

    kind: BudgetKind = MISSING
    flops: float | None = None
    steps: int | None = None


@dataclass
class Lengths:
    """Tokens kept of each text in training."""

    query: int = MISSING
    passage: int = MISSING


@dataclass
class Lora:
    """Low-rank adapters; everything else is frozen."""

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
class Negatives:
    """Hard negatives per query of the losses that choose their number."""

    cl: int = MISSING
    kd: int = MISSING
    clkd: int = MISSING


@dataclass
class Recipe:
    """How training runs; one option per ladder."""

    name: str = MISSING
    lengths: Lengths = MISSING
    evaluation_query_length: int = MISSING
    evaluation_passage_length: int = MISSING
    batch_size: int = MISSING
    accumulation: int = MISSING
    negatives: Negatives = MISSING
    negative_depth: int = MISSING
    micro_batch_tokens: int = MISSING
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
    dense: DenseRecipe = MISSING
    sparse: SparseRecipe = MISSING


@dataclass
class Evaluation:
    """How a trained cell is searched and scored."""

    measures: list[str] = MISSING
    depth: int = MISSING
    query_length: int = MISSING
    passage_length: int = MISSING
    batch_tokens: int = MISSING
    sparse_engine: SparseEngine = MISSING
    permutations: int = MISSING


@dataclass
class Site:
    """The machine."""

    name: SiteName = MISSING


@dataclass
class Tracking:
    """The experiment tracker."""

    kind: TrackerKind = MISSING
    project: str = MISSING
    group: str | None = None


@dataclass
class Paths:
    """Folders."""

    root: str = MISSING


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
    ladder: LadderName = MISSING
    seed: int = MISSING


def register() -> None:
    """Make the schema known to Hydra under the name that conf/config.yaml asks for."""
    ConfigStore.instance().store(name="schema", node=Config)


def config_folder() -> Path:
    """The conf/ folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def resolve(composed: DictConfig) -> Config:
    """A typed `Config` with every interpolation resolved, or `UserError` for a missing value."""
    try:
        cell = OmegaConf.create(
            OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        )
    except MissingMandatoryValue as error:
        key = str(error).rsplit(": ", 1)[-1].strip()
        raise UserError(f"{key} has no value: give it one with {key}=VALUE.") from None
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), cell))
    assert isinstance(config, Config)
    return config


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def validate(config: Config) -> None:
    """Refuse impossible values, naming the key, the value and what to type instead."""
    recipe, budget = config.recipe, config.budget
    positive = {
        "recipe.batch_size": recipe.batch_size,
        "recipe.accumulation": recipe.accumulation,
        "recipe.micro_batch_tokens": recipe.micro_batch_tokens,
        "recipe.learning_rate": recipe.learning_rate,
        "recipe.negative_depth": recipe.negative_depth,
        "recipe.checkpoint_every": recipe.checkpoint_every,
        "recipe.adapt.batch_size": recipe.adapt.batch_size,
        "recipe.adapt.chunk": recipe.adapt.chunk,
        "recipe.lengths.query": recipe.lengths.query,
        "recipe.lengths.passage": recipe.lengths.passage,
        "paradigm.temperature": config.paradigm.temperature,
        "evaluation.depth": config.evaluation.depth,
        "evaluation.query_length": config.evaluation.query_length,
        "evaluation.passage_length": config.evaluation.passage_length,
        "evaluation.batch_tokens": config.evaluation.batch_tokens,
    }
    for key, value in positive.items():
        _require(value > 0, f"{key}={value} must be greater than 0.")
    _require(
        recipe.adapt.steps >= 0,
        f"recipe.adapt.steps={recipe.adapt.steps} must be 0 (no adaptation) or more.",
    )
    for key, share in {
        "warmup": recipe.warmup,
        "sparse.flops_ramp": recipe.sparse.flops_ramp,
    }.items():
        _require(0 <= share <= 1, f"recipe.{key}={share} is a share of the steps: 0 to 1.")
    _require(
        recipe.batch_size % recipe.accumulation == 0,
        f"recipe.accumulation={recipe.accumulation} does not divide "
        f"recipe.batch_size={recipe.batch_size}: choose a divisor.",
    )
    longest = max(recipe.lengths.query, recipe.lengths.passage)
    _require(
        recipe.micro_batch_tokens >= longest,
        f"recipe.micro_batch_tokens={recipe.micro_batch_tokens} cannot hold one text of {longest} "
        f"tokens: set it to {longest} or more.",
    )
    _require(
        0 <= config.loss.negatives <= recipe.negative_depth - 1,
        f"loss.negatives={config.loss.negatives} are drawn from the first "
        f"recipe.negative_depth={recipe.negative_depth} BM25 hits without the positives: "
        f"choose 0 to {recipe.negative_depth - 1}.",
    )
    if budget.kind is BudgetKind.flops:
        _require(
            budget.flops is not None and budget.flops > 0,
            f"budget.flops={budget.flops}: give the FLOPs per cell, for example budget.flops=1e12.",
        )
    else:
        _require(
            budget.steps is not None and budget.steps > 0,
            f"budget.steps={budget.steps}: give the optimiser steps per cell, for example "
            "budget.steps=100.",
        )
    _require(
        not (recipe.lora and recipe.embedding_rate),
        "recipe.embedding_rate trains embedding rows, which recipe.lora freezes: "
        "set recipe.embedding_rate=null or recipe.lora=null.",
    )
    if config.model.backbone is None:
        described = config.model.proxy if config.ladder is LadderName.proxy else config.model.full
        _require(
            described is not None,
            f"model={config.model.name} says nothing of ladder={config.ladder.value}: choose "
            "another ladder, or set model.backbone to a Hugging Face id or a folder.",
        )
    if config.data.kind is DataKind.beir:
        _require(
            config.data.path is not None,
            "data=beir needs a folder in BEIR format: data.path=FOLDER.",
        )
    else:
        _require(bool(config.data.packages), "data.packages is empty: name one, such as stdlib.")
    for term, value in config.loss.terms.items():
        _require_target(f"loss.terms.{term}", value)
    _require_target("paradigm.encoder", config.paradigm.encoder)
    if config.paradigm.regulariser:
        _require_target("paradigm.regulariser", config.paradigm.regulariser)
    needy = [name for name, term in config.loss.terms.items() if needs_negatives(term)]
    _require(
        config.loss.negatives > 0 or not needy,
        f"loss term {', '.join(needy)} compares a positive with negatives: set loss.negatives=1 "
        "or more.",
    )


def _require_target(key: str, value: Any) -> None:
    """The class behind `_target_` must exist and take the other keys."""
    _require(
        isinstance(value, dict) and "_target_" in value,
        f"{key} must name a class: {key}._target_=package.module.Class",
    )
    try:
        target = get_class(value["_target_"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{key}._target_={value['_target_']} cannot be loaded: {reason}") from None
    known = set(inspect.signature(target).parameters)
    for name in set(value) - {"_target_"} - known:
        raise UserError(
            f"{key}.{name} is not a key of {target.__name__}; it has: {', '.join(sorted(known))}."
        )


def needs_negatives(term: dict[str, Any]) -> bool:
    """Whether a loss term reads hard negatives."""
    return bool(getattr(get_class(term["_target_"]), "needs_negatives", False))


def needs_teacher(config: Config) -> bool:
    """Whether any loss term of the cell reads teacher scores."""
    return any(
        getattr(get_class(term["_target_"]), "needs_teacher", False)
        for term in config.loss.terms.values()
    )
