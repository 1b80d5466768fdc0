"""Typed schemas of the configuration groups: units and allowed values stand here.

Hydra merges every chosen option into these classes, so an unknown key or a wrong type is refused
while composing. What no single key shows to be wrong is refused in validation.py.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hydra.utils import get_class
from omegaconf import MISSING

from lion_sweep.config.data import Data, Evaluation, check_name
from lion_sweep.config.recipe import Recipe
from lion_sweep.config.section import Section, class_behind, positive, require
from lion_sweep.config.site import Resources, Site
from lion_sweep.config.target import SIDES, check_target, targets
from lion_sweep.errors import UserError

AXES = ("model", "paradigm", "loss")

LadderName = StrEnum("LadderName", ["proxy", "full"])  # what 1b/3b/8b stand for
# What ends training: FLOPs, passes over the training pairs, steps, or GPU-hours.
BudgetKind = StrEnum("BudgetKind", ["flops", "epochs", "steps", "gpu_hours"])
Miner = StrEnum("Miner", ["exact", "lucene"])  # whose BM25 finds negatives
TrackerKind = StrEnum("TrackerKind", ["wandb", "trackio", "none"])
PlanFormat = StrEnum("PlanFormat", ["table", "json", "csv"])
StatusFormat = StrEnum("StatusFormat", ["table", "json"])

# What the classes have that options name, see models/encoders.py, losses/, stages/scorers.py
# and search/base.py.
ENCODER = (
    "kind", "over_vocabulary", "shape", "rows", "group_scores_BG", "all_scores_BC", "finished",
    "most_terms",
)  # fmt: skip
TERM = ("weight",)
SCORER = ("RULES", "of", "paid", "scores")
ENGINE = ("RULES", "exact", "missing", "over", "check", "search", "stats")

# Of what a budget is, and how much that could be.
EXAMPLES = {
    BudgetKind.gpu_hours: ("GPU-hours of training per cell", "8"),
    BudgetKind.epochs: ("passes over the training pairs", "3"),
    BudgetKind.steps: ("optimiser steps per cell", "100"),
}


@dataclass
class ProxyShape(Section):
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
class Model(Section):
    """The size axis."""

    name: str = MISSING
    title: str | None = None  # in tables and figures; None: the name
    backbone: str | None = None
    full: str | None = None
    full_shape: FullShape | None = None
    proxy: ProxyShape | None = None
    epochs: dict[str, int] = MISSING  # by loss


@dataclass
class Paradigm(Section):
    """The representation axis."""

    name: str = MISSING
    title: str | None = None  # in tables and figures; None: the name
    encoder: dict[str, Any] = MISSING
    temperature: float = MISSING
    teacher_scale: float = MISSING
    regulariser: dict[str, Any] | None = None
    target_l0: Any = None  # a number, or {queries: , passages: }; None: whatever comes of training
    controller: dict[str, Any] | None = None  # of a target

    def check(self, key: str) -> None:
        positive(self, key, "temperature")
        class_behind(f"{key}.encoder", self.encoder, ENCODER)
        for what in SIDES:
            most = self.most_terms(what)
            require(
                most is None or most > 0,
                f"{key}={self.name} keeps {most} terms of {what}: 1 or more.",
            )
        if self.regulariser:
            class_behind(f"{key}.regulariser", self.regulariser)
        if self.target_l0 is not None:
            check_target(key, self)

    def target_of(self, what: str) -> float | None:
        """The mean L0 that vectors of `queries` or `passages` are to have, if any."""
        return None if self.target_l0 is None else float(targets(self.target_l0)[what])

    def most_terms(self, what: str) -> int | None:
        """The largest weights that vectors of `queries` or `passages` keep; None: all."""
        found: int | None = self.made_by.most_terms(what, self.encoder)
        return found

    @property
    def regularised(self) -> dict[str, Any] | None:
        """What regularises: the regulariser, below the controller of a target."""
        if self.target_l0 is None:
            return self.regulariser
        targets = {what: self.target_of(what) for what in SIDES}
        return {**(self.controller or {}), "regulariser": self.regulariser, "targets": targets}

    @property
    def made_by(self) -> Any:
        """The class of the encoder, see models/encoders.py."""
        return get_class(self.encoder["_target_"])


@dataclass
class Loss(Section):
    """The supervision axis: named terms, each with its weight."""

    name: str = MISSING
    title: str | None = None  # in tables and figures; None: the name
    batch_size: int = MISSING
    negatives: int = MISSING
    terms: dict[str, Any] = MISSING

    @property
    def needs_teacher(self) -> bool:
        """Whether any term reads teacher scores."""
        return bool(self._saying("needs_teacher"))

    def _saying(self, attribute: str) -> list[str]:
        """The terms whose classes say so of themselves, as in `needs_teacher = True`."""
        classes = {name: get_class(term["_target_"]) for name, term in self.terms.items()}
        return [name for name, behind in classes.items() if getattr(behind, attribute, False)]

    def check(self, key: str) -> None:
        positive(self, key, "batch_size")
        # Pools cut a step's passages evenly, a query's own all in one.
        group, size = 1 + self.negatives, self.batch_size
        pools = [group * part for part in range(1, size + 1) if size % part == 0]
        for name, term in self.terms.items():
            class_behind(f"{key}.terms.{name}", term, TERM)
            candidates = term.get("candidates")
            require(
                candidates is None or candidates in pools,
                f"{key}.terms.{name}.candidates={candidates} does not cut the step's "
                f"{size * group} passages (loss.batch_size groups of {group}) into equal pools: "
                f"choose {', '.join(map(str, pools))}, or null for all of them.",
            )
        needy = self._saying("needs_negatives")
        require(
            self.negatives > 0 or not needy,
            f"loss term {', '.join(needy)} compares a positive with negatives: set "
            f"{key}.negatives=1 or more.",
        )


@dataclass
class Engine(Section):
    """What searches each kind of vectors, and words: a class and its settings."""

    name: str = MISSING
    kinds: dict[str, Any] = MISSING

    def of(self, kind: str, paradigm: str) -> dict[str, Any]:
        """The engine of a kind. Raises `UserError` where there is none."""
        require(
            kind in self.kinds,
            f"engine={self.name} searches {', '.join(self.kinds)}, and paradigm={paradigm} makes "
            f"vectors that are {kind}: choose an engine with engine.kinds.{kind}, or add one: "
            f"'+engine.kinds.{kind}={{_target_: package.module.Class}}'",
        )
        return self.kinds[kind]

    def check_kind(self, kind: str, paradigm: str) -> Any:
        """The class of the engine of a kind, which can be had and takes its settings."""
        chosen, key = self.of(kind, paradigm), f"engine.kinds.{kind}"
        engine = class_behind(key, chosen, ENGINE)
        engine.check(key, {name: value for name, value in chosen.items() if name != "_target_"})
        return engine


@dataclass
class Negatives(Section):
    """Where hard negatives come from, for data without groups of its own."""

    engine: Miner = MISSING


@dataclass
class Teacher(Section):
    """Who scores query-passage pairs for distillation: a weighted sum of scorers."""

    name: str = MISSING
    scorers: dict[str, Any] = MISSING

    def check(self, key: str) -> None:
        for name, told in self.scorers.items():
            require("weight" in told, f"{key}.scorers.{name} needs a weight: 1.0, for example.")
            settings = {setting: value for setting, value in told.items() if setting != "weight"}
            class_behind(f"{key}.scorers.{name}", settings, SCORER)


@dataclass
class Anchor(Section):
    """A reference cell, and for how many epochs it trains."""

    model: str = MISSING
    paradigm: str = MISSING
    loss: str = MISSING
    epochs: float = MISSING


@dataclass
class Budget(Section):
    """What a cell may spend on `train`."""

    kind: BudgetKind = MISSING
    flops: float | None = None
    anchor: Anchor | None = None
    epochs: float | None = None
    steps: int | None = None
    gpu_hours: float | None = None
    tolerance: float | None = None
    confirm_gpu_hours: float = MISSING

    def check(self, key: str) -> None:
        require(
            self.confirm_gpu_hours >= 0,
            f"{key}.confirm_gpu_hours={self.confirm_gpu_hours} must be 0 or more.",
        )
        if self.kind is not BudgetKind.flops:
            (what, example), value = EXAMPLES[self.kind], getattr(self, self.kind)
            advice = f"give the {what}, for example {key}.{self.kind}={example}."
            require((value or 0) > 0, f"{key}.{self.kind}={value}: {advice}")
            return
        require(
            (self.flops is None) != (self.anchor is None),
            f"{key}.flops={self.flops} and {key}.anchor={self.anchor}: give one of them, the "
            "other null (budget=flops and budget=anchor do).",
        )
        require(
            self.anchor is None or self.anchor.epochs > 0,
            f"{key}.anchor.epochs={self.anchor and self.anchor.epochs}: give the reference cell's "
            f"passes over the training pairs, for example {key}.anchor.epochs=1.",
        )
        require(
            self.flops is None or self.flops > 0,
            f"{key}.flops={self.flops}: give the FLOPs per cell, for example {key}.flops=1e12.",
        )
        require(
            self.tolerance is None or self.tolerance >= 0,
            f"{key}.tolerance={self.tolerance} is a share: 0 or more, or null for no limit.",
        )


@dataclass
class Tracking(Section):
    kind: TrackerKind = MISSING
    project: str = MISSING
    group: str | None = None
    points: int = MISSING
    split: str | None = None

    def check(self, key: str) -> None:
        require(
            self.points >= 0,
            f"{key}.points={self.points} are evaluations while training: 0 or more.",
        )


@dataclass
class Plan(Section):
    """How `python -m lion_sweep.plan` shows a grid."""

    format: PlanFormat = MISSING
    calibrate: bool = MISSING


@dataclass
class StatusView(Section):
    """How `python -m lion_sweep.status` shows the cells."""

    format: StatusFormat = MISSING


@dataclass
class Paths(Section):
    root: str = MISSING
    beir: str = MISSING


@dataclass
class Config(Section):
    """One cell."""

    model: Model = MISSING
    paradigm: Paradigm = MISSING
    loss: Loss = MISSING
    data: Data = MISSING
    negatives: Negatives = MISSING
    teacher: Teacher = MISSING
    budget: Budget = MISSING
    recipe: Recipe = MISSING
    evaluation: Evaluation = MISSING
    engine: Engine = MISSING
    site: Site = MISSING
    tracking: Tracking = MISSING
    paths: Paths = MISSING
    plan: Plan = MISSING
    status: StatusView = MISSING
    ladder: LadderName = MISSING
    seed: int = MISSING
    confirm: bool = MISSING

    def check(self, key: str) -> None:
        for axis in AXES:
            check_name(f"{axis}.name", getattr(self, axis).name)

    def resources(self) -> Resources:
        """What a job of the cell asks of a cluster, by its ladder and model."""
        site = self.site
        of_ladder: dict[str, Resources] = getattr(site.resources, self.ladder.name)
        found = of_ladder.get(self.model.name) or of_ladder.get("default")
        if found is None:
            raise UserError(
                f"site.resources.{self.ladder.name} has neither {self.model.name} nor default: "
                f"add {{devices: 1, gpus: 1, cpus: 8, memory: 64}} for one of them."
            )
        devices = site.devices or found.devices
        share = devices / found.devices  # more devices bring their GPUs and cores along
        return Resources(
            devices,
            round(found.gpus * share) if site.gpus is None else site.gpus,
            max(1, round(found.cpus * share)) if site.cpus is None else site.cpus,
            found.memory if site.memory is None else site.memory,
        )
