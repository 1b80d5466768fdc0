"""Who scores pairs for distillation, what kind of scores they are, and what these must not be."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from lion_sweep.config.classes import class_named
from lion_sweep.config.section import Section, class_behind, require

# What a teacher's score is: unbounded and in nats, as a logit or a sum of weights; the same, less
# that of the query's positive; from 0 to 1; from -1 to 1.
ScoreKind = StrEnum("ScoreKind", ["logit", "margin", "probability", "cosine"])
OnFailure = StrEnum("OnFailure", ["refuse", "warn"])  # of an audit

# What the class of a scorer has, see stages/scorers.py.
SCORER = ("RULES", "kind", "of", "paid", "scores")


@dataclass
class Audit(Section):
    """What a teacher's scores, as a loss reads them, must not be like."""

    on_failure: OnFailure = MISSING
    flat: float = MISSING
    one_hot: float = MISSING
    margin: list[float] = MISSING

    def check(self, key: str) -> None:
        require(
            0 <= self.one_hot < self.flat <= 1,
            f"{key}.one_hot={self.one_hot} and {key}.flat={self.flat} are shares of the largest "
            "entropy: 0 or more, 1 at most, and the first less than the second.",
        )
        require(
            len(self.margin) == 2 and 0 <= self.margin[0] < self.margin[1],
            f"{key}.margin={self.margin} is the least and the most of a median: [0.1, 300].",
        )


@dataclass
class Teacher(Section):
    """Who scores query-passage pairs for distillation: a weighted sum of scorers."""

    name: str = MISSING
    scorers: dict[str, Any] = MISSING
    audit: Audit = MISSING

    @property
    def weighed(self) -> dict[str, tuple[ScoreKind, float]]:
        """Of each scorer that has a weight: the kind of its scores, and the weight."""
        found = {}
        for name, told in self.scorers.items():
            if told["weight"]:
                scorer: Any = class_named(told["_target_"])
                found[name] = ScoreKind(told.get("kind", scorer.kind)), told["weight"]
        return found

    def check(self, key: str) -> None:
        for name, told in self.scorers.items():
            require("weight" in told, f"{key}.scorers.{name} needs a weight: 1.0, for example.")
            settings = {setting: value for setting, value in told.items() if setting != "weight"}
            class_behind(f"{key}.scorers.{name}", settings, SCORER)
            kind = told.get("kind", ScoreKind.logit)
            require(
                kind in list(ScoreKind),
                f"{key}.scorers.{name}.kind={kind} is no kind of scores: {', '.join(ScoreKind)}.",
            )
