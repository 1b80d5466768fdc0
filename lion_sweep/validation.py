"""Refuse a cell that cannot be run, before anything is: impossible values and combinations."""

import inspect
from typing import Any

from hydra.utils import get_class

from lion_sweep.config import BudgetKind, Config, LadderName, Loss
from lion_sweep.config_data import DataKind
from lion_sweep.config_site import When
from lion_sweep.errors import UserError
from lion_sweep.evaluation.measures import Measure


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def validate(config: Config) -> None:
    """Refuse impossible values, naming the key, the value and what to type instead."""
    recipe, budget = config.recipe, config.budget
    positive = {
        "loss.batch_size": config.loss.batch_size,
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
        "evaluation.seismic.n_postings": config.evaluation.seismic.n_postings,
        "evaluation.seismic.query_cut": config.evaluation.seismic.query_cut,
        "site.attempts": config.site.attempts,
        "site.encode_jobs": config.site.encode_jobs,
        "site.slurm.nodes": config.site.slurm.nodes,
        "site.slurm.signal": config.site.slurm.signal,
        "site.escalate.memory": config.site.escalate.memory,
        "site.escalate.time": config.site.escalate.time,
        "site.efficiency": config.site.efficiency,
        **{
            f"site.{key}": value
            for key in (
                "devices",
                "cpus",
                "memory",
                "parallel",
                "peak_tflops",
                "memory_gib",
                "price",
                "time_limit",
            )
            if (value := getattr(config.site, key)) is not None
        },
    }
    if config.evaluation.kept_terms is not None:
        positive["evaluation.kept_terms"] = config.evaluation.kept_terms
    for key, value in positive.items():
        _require(value > 0, f"{key}={value} must be greater than 0.")
    for name in (config.data.name, *config.evaluation.sets):
        for measure in config.evaluation.measures_of(name):
            Measure.of(measure)
    _require(
        recipe.adapt.steps >= 0,
        f"recipe.adapt.steps={recipe.adapt.steps} must be 0 (no adaptation) or more.",
    )
    for key, share in {
        "warmup": recipe.warmup,
        "sparse.flops_ramp": recipe.sparse.flops_ramp,
    }.items():
        _require(0 <= share <= 1, f"recipe.{key}={share} is a share of the steps: 0 to 1.")
    for key in ("summary_energy", "heap_factor"):
        share = getattr(config.evaluation.seismic, key)
        _require(0 <= share <= 1, f"evaluation.seismic.{key}={share} is a share: 0 to 1.")
    _require((config.site.gpus or 0) >= 0, f"site.gpus={config.site.gpus} must be 0 or more.")
    _require(
        config.site.efficiency <= 1,
        f"site.efficiency={config.site.efficiency} is a share of the peak: more than 0, at most 1.",
    )
    _require(
        budget.confirm_gpu_hours >= 0,
        f"budget.confirm_gpu_hours={budget.confirm_gpu_hours} must be 0 or more.",
    )
    collections = (config.data.name, *config.evaluation.sets)
    evaluated = max(max(config.evaluation.lengths_of(name)) for name in collections)
    trained = max(recipe.lengths.query, recipe.lengths.passage, recipe.adapt.chunk)
    for key, tokens, longest in (
        ("recipe.micro_batch_tokens", recipe.micro_batch_tokens, trained),
        ("evaluation.batch_tokens", config.evaluation.batch_tokens, evaluated),
        ("site.shard_tokens", config.site.shard_tokens, evaluated),
    ):
        _require(
            tokens >= longest,
            f"{key}={tokens} cannot hold one text of {longest} tokens: set it to at least that.",
        )
    _require(
        0 <= config.loss.negatives <= recipe.negative_depth - 1,
        f"loss.negatives={config.loss.negatives} are drawn from the first "
        f"recipe.negative_depth={recipe.negative_depth} BM25 hits without the positives: "
        f"choose 0 to {recipe.negative_depth - 1}.",
    )
    if budget.kind is BudgetKind.flops:
        _require(
            (budget.flops is None) != (budget.anchor is None),
            f"budget.flops={budget.flops} and budget.anchor={budget.anchor}: give one of them, the "
            "other null (budget=flops and budget=anchor do).",
        )
        if budget.anchor:
            _require(
                budget.anchor.epochs > 0,
                f"budget.anchor.epochs={budget.anchor.epochs}: give the reference cell's passes "
                "over the training pairs, for example budget.anchor.epochs=1.",
            )
        _require(
            budget.flops is None or budget.flops > 0,
            f"budget.flops={budget.flops}: give the FLOPs per cell, for example budget.flops=1e12.",
        )
        _require(
            budget.tolerance is None or budget.tolerance >= 0,
            f"budget.tolerance={budget.tolerance} is a share: 0 or more, or null for no limit.",
        )
    elif budget.kind is BudgetKind.gpu_hours:
        _require(
            budget.gpu_hours is not None and budget.gpu_hours > 0,
            f"budget.gpu_hours={budget.gpu_hours}: give the GPU-hours of training per cell, for "
            "example budget.gpu_hours=8.",
        )
    elif budget.kind is BudgetKind.epochs:
        _require(
            budget.epochs is not None and budget.epochs > 0,
            f"budget.epochs={budget.epochs}: give the passes over the training pairs, for example "
            "budget.epochs=3.",
        )
    else:
        _require(
            budget.steps is not None and budget.steps > 0,
            f"budget.steps={budget.steps}: give the optimiser steps per cell, for example "
            "budget.steps=100.",
        )
    _require(
        recipe.lora is None or recipe.lora.rank > 0,
        f"recipe.lora.rank={recipe.lora and recipe.lora.rank}: set recipe.lora.rank=0 for full "
        "fine-tuning, or a positive rank.",
    )
    _require(
        not (recipe.lora and recipe.embedding_rate),
        "recipe.embedding_rate trains embedding rows, which recipe.lora freezes: "
        "set recipe.embedding_rate=null or recipe.lora.rank=0.",
    )
    _require(
        recipe.lora is not None or config.site.shard is not When.always,
        "site.shard=always shards what recipe.lora freezes, and recipe.lora=null trains every "
        "weight: set site.shard=auto, or take a recipe with lora.",
    )
    if config.model.backbone is None:
        described = config.model.proxy if config.ladder is LadderName.proxy else config.model.full
        _require(
            described is not None,
            f"model={config.model.name} says nothing of ladder={config.ladder.value}: choose "
            "another ladder, or set model.backbone to a Hugging Face id or a folder.",
        )
    if config.data.kind is DataKind.files:
        _require(
            config.data.path is not None,
            f"data={config.data.name} needs a folder, a .zip or a Hugging Face id: "
            "data.path=FOLDER.",
        )
    else:
        _require(bool(config.data.packages), "data.packages is empty: name one, such as stdlib.")
    for name, chosen in config.evaluation.sets.items():
        _require(
            name != config.data.name,
            f"evaluation.sets.{name} has the name of the collection that cells train on, whose "
            "test split is scored anyway: give it another name.",
        )
        for key in ("query_length", "passage_length"):
            length = getattr(chosen, key)
            _require(
                length is None or length > 0,
                f"evaluation.sets.{name}.{key}={length} must be greater than 0, or null.",
            )
    for term, value in config.loss.terms.items():
        _require_target(f"loss.terms.{term}", value)
        _require_pools(f"loss.terms.{term}.candidates", value.get("candidates"), config.loss)
    _require_target("paradigm.encoder", config.paradigm.encoder)
    if config.paradigm.regulariser:
        _require_target("paradigm.regulariser", config.paradigm.regulariser)
    needy = [name for name, term in config.loss.terms.items() if needs_negatives(term)]
    _require(
        config.loss.negatives > 0 or not needy,
        f"loss term {', '.join(needy)} compares a positive with negatives: set loss.negatives=1 "
        "or more.",
    )


def _require_pools(key: str, candidates: int | None, loss: Loss) -> None:
    """A step's passages are cut into pools of `candidates`, a query's own all in one."""
    group = 1 + loss.negatives
    step = loss.batch_size * group
    known = [group * size for size in range(1, loss.batch_size + 1) if loss.batch_size % size == 0]
    _require(
        candidates is None or candidates in known,
        f"{key}={candidates} does not cut the step's {step} passages (loss.batch_size groups of "
        f"{group}) into equal pools: choose {', '.join(map(str, known))}, or null for all of them.",
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
