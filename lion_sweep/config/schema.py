"""Typed schemas of the configuration groups: units and allowed values stand here.

Hydra merges every chosen option into these classes, so an unknown key or a wrong type is refused
while composing. What no single key shows to be wrong is refused in validation.py.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from omegaconf import MISSING

from lion_sweep.config.data import Data, Evaluation, check_name
from lion_sweep.config.ladder import LadderName
from lion_sweep.config.paradigm import Paradigm
from lion_sweep.config.recipe import Recipe
from lion_sweep.config.section import Section, built, class_behind, positive, require
from lion_sweep.config.site import Resources, Site
from lion_sweep.config.teacher import Teacher
from lion_sweep.errors import UserError

AXES = ("model", "paradigm", "loss")

# What ends training: FLOPs, passes over the training pairs, steps, or GPU-hours.
BudgetKind = StrEnum("BudgetKind", ["flops", "epochs", "steps", "gpu_hours"])
Miner = StrEnum("Miner", ["exact", "lucene"])  # whose BM25 finds negatives
Ranker = StrEnum("Ranker", ["own", "teacher"])  # by whose scores candidates are ranked
# Which of a query's candidates a step draws as its negatives: any, those with the highest scores,
# or some of all scores.
Sampling = StrEnum("Sampling", ["random", "top", "stratified"])
TrackerKind = StrEnum("TrackerKind", ["wandb", "trackio", "none"])
PlanFormat = StrEnum("PlanFormat", ["table", "json", "csv"])
StatusFormat = StrEnum("StatusFormat", ["table", "json"])

# What the classes have that options name, see losses/ and search/base.py.
TERM = ("weight",)
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
class CutShape(Section):
    """The first layers of a pretrained decoder."""

    decoder: str = MISSING
    layers: int = MISSING

    def check(self, key: str) -> None:
        require(
            self.layers >= 1,
            f"{key}.layers={self.layers} leaves no decoder: keep 1 layer or more.",
        )


@dataclass
class Model(Section):
    """The size axis."""

    name: str = MISSING
    title: str | None = None  # in tables and figures; None: the name
    backbone: str | None = None
    full: str | None = None
    full_shape: FullShape | None = None
    proxy: ProxyShape | None = None
    cut: CutShape | None = None
    epochs: dict[str, int] = MISSING  # by loss


@dataclass
class Loss(Section):
    """The supervision axis: named terms, each with its weight; one whose weight is 0 is none."""

    name: str = MISSING
    title: str | None = None  # in tables and figures; None: the name
    batch_size: int = MISSING
    negatives: int = MISSING
    sampling: Sampling = Sampling.random
    terms: dict[str, Any] = MISSING

    @property
    def active(self) -> dict[str, Any]:
        """The terms that count; of the others nothing is read but their weight of 0."""
        found = self.terms.items()
        return {n: t for n, t in found if not (isinstance(t, dict) and t.get("weight") == 0)}

    @property
    def needs_teacher(self) -> bool:
        """Whether any term reads teacher scores."""
        return bool(self._saying("needs_teacher"))

    def _saying(self, attribute: str) -> list[str]:
        """The terms that say so of themselves, as in `needs_teacher = True`."""
        made = {name: built(f"loss.terms.{name}", term) for name, term in self.active.items()}
        return [name for name, term in made.items() if getattr(term, attribute, False)]

    def check(self, key: str) -> None:
        positive(self, key, "batch_size")
        # Pools cut a step's passages evenly, a query's own all in one.
        group, size = 1 + self.negatives, self.batch_size
        pools = [group * part for part in range(1, size + 1) if size % part == 0]
        for name, term in self.terms.items():
            class_behind(f"{key}.terms.{name}", term, TERM)
        require(
            bool(self.active),
            f"{key}.terms: every weight is 0 ({', '.join(self.terms)}): give one of them another, "
            f"as in {key}.terms.{next(iter(self.terms), 'NAME')}.weight=1.",
        )
        for name, term in self.active.items():
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
    cell: str | None = None
    margin: float | None = None
    ranked_by: Ranker = Ranker.own

    @property
    def scored(self) -> bool:
        """Whether the teacher scores all candidates, whatever the loss reads."""
        return self.margin is not None or self.ranked_by is Ranker.teacher

    def check(self, key: str) -> None:
        require(
            self.margin is None or isfinite(self.margin),
            f"{key}.margin={self.margin} is a distance of scores: a number, or null to drop none.",
        )


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
class Alarms(Section):
    """What stops a training, by the value beyond which it does; None: that does not."""

    name: str = MISSING
    not_finite: float | None = None
    lookahead: float | None = None
    empty: float | None = None
    sink: float | None = None
    regulariser: float | None = None
    cosine: float | None = None
    flat: float | None = None
    sharp: float | None = None

    @property
    def limits(self) -> dict[str, float]:
        """Of the alarms that are on."""
        return {key: value for key, value in vars(self).items() if isinstance(value, float)}

    def check(self, key: str) -> None:
        for name, limit in self.limits.items():
            require(limit >= 0, f"{key}.{name}={limit} must be 0 or more, or null for no alarm.")


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
    alarms: Alarms = MISSING
    paths: Paths = MISSING
    plan: Plan = MISSING
    status: StatusView = MISSING
    ladder: LadderName = MISSING
    seed: int = MISSING
    confirm: bool = MISSING

    def check(self, key: str) -> None:
        for axis in AXES:
            check_name(f"{axis}.name", getattr(self, axis).name)

    @property
    def decoder(self) -> str | None:
        """The weights that the cell starts from, as package:NAME, a folder or a Hugging Face id;
        None where they are built here."""
        model, cut = self.model, self.model.cut
        of_ladder = {LadderName.full: model.full, LadderName.cut: cut.decoder if cut else None}
        return model.backbone or of_ladder.get(self.ladder)

    def kept_terms(self, what: str) -> int | None:
        """The largest weights that are kept of sparse `queries` or `passages`; None: all."""
        own = self.evaluation.kept_terms if self.paradigm.made_by.over_vocabulary else None
        most = own, self.paradigm.most_terms(what)
        return min((terms for terms in most if terms is not None), default=None)

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
