"""Refuse a cell that cannot be run, or not on this machine, before anything is.

Every section checks itself; here is what two of them make impossible together, and what the cell's
stages need: packages, Java, a decoder that can be had.
"""

from pathlib import Path

import torch
from huggingface_hub import get_token

from lion_sweep.config.classes import class_named
from lion_sweep.config.recipe import Attention
from lion_sweep.config.schema import Config, LadderName, Ranker, Sampling, TrackerKind
from lion_sweep.config.section import require, sections
from lion_sweep.config.site import SiteName, When
from lion_sweep.config.teacher import ScoreKind
from lion_sweep.data.pretrained import config_of
from lion_sweep.data.whole import check_weights
from lion_sweep.errors import UserError
from lion_sweep.evaluation.measures import Measure
from lion_sweep.machine.trackio_run import check_trackio
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.search.base import WORDS
from lion_sweep.stages.index import MINERS, class_of


def validate(config: Config) -> None:
    """Refuse impossible values, naming the key, the value and what to type instead."""
    for key, section in sections(config):
        section.check(key)
    for kind in (config.paradigm.made_by.kind, WORDS):
        config.engine.check_kind(kind, config.paradigm.name)
    for name in (config.data.name, *config.evaluation.sets):
        for measure in config.evaluation.measures_of(name):
            Measure.of(measure)
    require(
        config.data.name not in config.evaluation.sets,
        f"evaluation.sets.{config.data.name} has the name of the collection that cells train on, "
        "whose test split is scored anyway: give it another name.",
    )
    require(
        not (config.data.groups and config.negatives.cell),
        f"data.groups={config.data.groups} brings the negatives, so that "
        f"negatives.cell={config.negatives.cell} finds none: set one of them to null.",
    )
    require(
        config.negatives.ranked_by is Ranker.own or config.loss.sampling is not Sampling.random,
        "negatives.ranked_by=teacher has the teacher score every candidate, and loss.sampling="
        "random draws them whatever these are: set loss.sampling=top or stratified.",
    )
    _check_room(config)
    _check_regulariser(config)
    causal, steps = config.paradigm.attention is Attention.causal, config.recipe.adapt.steps
    require(
        not (causal and steps),
        f"paradigm.attention=causal keeps a decoder that looks back only, and "
        f"recipe.adapt.steps={steps} of MNTP would teach it to look ahead: set "
        "recipe.adapt.steps=0, or a paradigm whose attention is bidirectional.",
    )
    kept = config.evaluation.kept_terms
    for what in (QUERIES, PASSAGES):
        target = config.paradigm.target_of(what)
        require(
            kept is None or target is None or target <= kept,
            f"paradigm.target_l0={target} terms of {what} are more than evaluation.kept_terms="
            f"{kept} leaves: set evaluation.kept_terms=null.",
        )
    _check_scores(config)
    depth, negatives = config.recipe.negative_depth, config.loss.negatives
    require(
        0 <= negatives <= depth - 1,
        f"loss.negatives={negatives} are drawn from the first recipe.negative_depth={depth} "
        f"hits without the positives: choose 0 to {depth - 1}.",
    )
    require(
        config.recipe.lora is not None or config.site.shard is not When.always,
        "site.shard=always shards what recipe.lora freezes, and recipe.lora=null trains every "
        "weight: set site.shard=auto, or take a recipe with lora.",
    )
    model = config.model
    require(
        bool(model.backbone) or getattr(model, config.ladder.name) is not None,
        f"model={model.name} says nothing of ladder={config.ladder}: choose another ladder, "
        "or set model.backbone to a Hugging Face id or a folder.",
    )


def _check_room(config: Config) -> None:
    recipe, evaluation = config.recipe, config.evaluation
    collections = (config.data.name, *evaluation.sets)
    evaluated = max(max(evaluation.lengths_of(name)) for name in collections)
    trained = max(recipe.lengths.query, recipe.lengths.passage, recipe.adapt.chunk)
    for key, tokens, longest in (
        ("recipe.micro_batch_tokens", recipe.micro_batch_tokens, trained),
        ("evaluation.batch_tokens", evaluation.batch_tokens, evaluated),
        ("site.shard_tokens", config.site.shard_tokens, evaluated),
    ):
        require(
            tokens >= longest,
            f"{key}={tokens} cannot hold one text of {longest} tokens: set it to at least that.",
        )


def _check_regulariser(config: Config) -> None:
    """Refuse pools that do not cut a step evenly, and sides that it does not have."""
    told, loss = config.paradigm.regulariser or {}, config.loss
    pool, queries = told.get("pool"), loss.batch_size
    require(
        pool is None or queries % pool == 0,
        f"paradigm.regulariser.pool={pool} (recipe.sparse.flops_pool) does not cut the step's "
        f"{queries} queries (loss.batch_size) into equal pools: choose a divisor of {queries}, or "
        "null for all of them.",
    )
    require(
        not told.get("apart") or loss.negatives > 0,
        "paradigm.regulariser.apart=true (recipe.sparse.flops_apart) takes positives and negatives "
        "apart, and loss.negatives=0: set loss.negatives=1 or more, or apart to false.",
    )


def _check_scores(config: Config) -> None:
    """Refuse bounded scores that a term of the loss would read as they are, or smaller."""
    if not config.loss.needs_teacher:
        return
    weighed, scale = config.teacher.weighed, config.paradigm.teacher_scale
    bounded = {ScoreKind.probability, ScoreKind.cosine}
    if not {kind for kind, _ in weighed.values()} <= bounded:
        return
    most = sum(abs(weight) for _, weight in weighed.values()) * scale
    for name, term in config.loss.active.items():
        factor = most / term.get("teacher_temperature", 1.0)
        reads = getattr(class_named(term["_target_"]), "reads", None)
        require(
            not reads or factor > 1,
            f"teacher={config.teacher.name} has scores of a kind that is bounded ("
            f"{', '.join(f'{one}: {kind}' for one, (kind, _) in weighed.items())}), and "
            f"loss.terms.{name} would read {reads} of {factor:g} times them, in which "
            f"passages hardly differ: say paradigm.teacher_scale={20 * scale / factor:g}"
            " or so (it multiplies them), or raise the weights in teacher.scorers.",
        )


def check_engines(config: Config) -> None:
    """Refuse an engine whose package, or whose Java, is not here."""
    paradigm = config.paradigm
    for kind in (paradigm.made_by.kind, WORDS):
        if missing := config.engine.check_kind(kind, paradigm.name).missing():
            raise UserError(f"engine={config.engine.name}: {missing}. Or use engine=exact.")
    miner = config.negatives.engine
    if config.data.groups or config.negatives.cell:
        return
    if missing := class_of(MINERS[miner]).missing():
        raise UserError(f"negatives.engine={miner}: {missing}. Or use negatives.engine=exact.")


def check_machine(config: Config, site: SiteName) -> None:
    """Refuse before any work what this machine cannot do."""
    devices, there = config.site.devices or 1, torch.cuda.device_count()
    if site is SiteName.gpu and devices > there:
        raise UserError(
            f"site.devices={devices}, but torch finds {there} GPUs here: set site.devices={there} "
            "or less (python -m lion_sweep.plan plans for any number)."
        )
    check_engines(config)
    if config.tracking.kind is TrackerKind.trackio:
        check_trackio()
    if config.site.compile and site is not SiteName.slurm:
        from lion_sweep.models.compiled import check_compiler

        check_compiler(torch.device("cuda" if site is SiteName.gpu else "cpu"))
    source, gated = config.decoder, config.ladder is LadderName.full
    if not source or source.startswith("package:"):
        return
    if Path(source).is_dir():
        if not (Path(source) / "config.json").is_file():
            raise UserError(f"{source} is a folder without config.json: give a decoder's.")
        check_weights(Path(source))
    elif gated and config.model.backbone is None and site is SiteName.laptop:
        raise UserError(
            f"ladder=full trains {source}, which needs a GPU, and torch finds none here: "
            "use ladder=proxy, or run on a machine with CUDA."
        )
    try:
        described = config_of(source)
    except UserError:
        raise
    except Exception as error:
        token = "a token is configured" if get_token() else "no Hugging Face token is configured"
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{source} cannot be loaded ({token}): {reason} Ask for access on the model's page and "
            "run `hf auth login`, or set model.backbone to a folder that holds the weights."
        ) from None
    adapt = config.recipe.adapt
    if adapt.steps or adapt.centre or config.paradigm.made_by.over_vocabulary:
        from lion_sweep.models.probes import unreadable  # seconds, which stand-ins need not wait

        require(not (reason := unreadable(described)), reason)
