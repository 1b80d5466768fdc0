"""What a teacher's scores are like, as the loss terms of a cell read them, before it is trained.

Shapes: R rows (the queries of all steps, one step after the other), G = 1 + negatives, the positive
first, P training pairs, J judgements.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Audit, Config, OnFailure
from lion_sweep.config.classes import class_named
from lion_sweep.data.groups import Groups
from lion_sweep.errors import UserError
from lion_sweep.stages.base import Stage
from lion_sweep.stages.groups import GROUPS
from lion_sweep.stages.teacher import SCORES, Teach
from lion_sweep.stages.texts import ImportJudgements
from lion_sweep.stages.workshop import Workshop

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ROWS = 1 << 16  # at once
SAMPLE = 1 << 12  # rows that a better scale is looked for on
SOFTMAX, MARGINS = "softmax", "margins"  # what a term may read of the teacher's scores


@dataclass(frozen=True)
class Target:
    """A loss term, what it reads of the teacher's scores, and the temperature that divides them."""

    term: str
    reads: str
    temperature: float


@dataclass(frozen=True, eq=False)
class AuditTeacher(Stage):
    """Numbers of a teacher's scores, multiplied by `scale`; refuses those that teach nothing."""

    kind = "audit"

    teach: Teach
    judged: ImportJudgements
    scale: float
    targets: tuple[Target, ...]
    limits: Audit

    @classmethod
    def of(cls, config: Config, teach: Teach, judged: ImportJudgements) -> "AuditTeacher":
        """Of the terms of a cell's loss that say what they read."""
        targets = []
        for name, told in config.loss.active.items():
            reads = getattr(class_named(told["_target_"]), "reads", None)
            if reads:
                targets.append(Target(name, reads, told.get("teacher_temperature", 1.0)))
        scale, limits = config.paradigm.teacher_scale, config.teacher.audit
        return cls(teach, judged, scale, tuple(targets), limits)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Raises `UserError` for scores that fail, unless they are to be warned of alone."""
        score_RG = np.load(shop.folder(self.teach) / SCORES, mmap_mode="r")
        margin_RN = score_RG[:, :1] - score_RG[:, 1:]
        targets = {one.term: self._target(one, score_RG, margin_RN) for one in self.targets}
        facts = {
            "pairs": score_RG.size,
            "coverage": float(np.isfinite(score_RG).mean()),  # others are refused by the teacher
            "scale": self.scale,
            "scores": quantiles(self.scale * score_RG),
            "margins": quantiles(self.scale * margin_RN),
            "inverted": float((margin_RN < 0).mean()) if margin_RN.size else None,
            "targets": targets,
            "judged": self._judged(shop),
        }
        for line in lines(facts):
            shop.progress.say(line)
        faults = [*self._stray(facts), *self._faults(targets, score_RG)]
        if faults and self.limits.on_failure is OnFailure.refuse:
            raise UserError(f"{' '.join(faults)} Or say teacher.audit.on_failure=warn.")
        for fault in faults:
            shop.progress.say(f"warning: {fault}")
        return facts | {"faults": faults}

    def _judged(self, shop: Workshop) -> float:
        """Share of the training pairs whose positive is judged relevant, [0, 1]."""
        groups = Groups.load(shop.folder(self.teach.course.draws.groups) / GROUPS)
        judged = self.judged.read(shop)
        query_J, document_J, grade_J = map(judged.column, ("query_row", "document_row", "grade"))
        size = int(max(document_J.max(initial=0), groups.positive_P.max(initial=0))) + 1
        known_J = (query_J.astype(np.int64) * size + document_J)[(grade_J > 0) & (document_J >= 0)]
        asked_P = groups.query_P.astype(np.int64) * size + groups.positive_P
        return float(np.isin(asked_P, known_J).mean())

    def _stray(self, facts: dict[str, Any]) -> Iterator[str]:
        if not facts["judged"]:
            yield (
                "Of no training pair is the positive judged relevant by data.qrels: the groups and "
                "their scores are of another collection, so choose data.groups of this one."
            )

    def _target(
        self, target: Target, score_RG: NDArray[np.float32], margin_RN: NDArray[np.float32]
    ) -> dict[str, float]:
        """What the term is to follow: entropy of a softmax, or the median size of a margin."""
        scale = self.scale / target.temperature
        if target.reads == SOFTMAX:
            return {"scale": scale, "entropy": entropy(score_RG, scale)}
        return {"scale": scale, "margin": scale * float(np.median(np.abs(margin_RN)))}

    def _faults(
        self, targets: dict[str, dict[str, float]], score_RG: NDArray[np.float32]
    ) -> Iterator[str]:
        for name, told in targets.items():
            limit = self._softmax(told) if "entropy" in told else self._margin(told)
            if limit is None:
                continue
            better = self._better(told, score_RG)
            fix = (
                "the scores of a query hardly differ, whatever their scale: choose another teacher."
            )
            if better is not None:
                better = float(f"{better:.2g}")
                fix = f"say paradigm.teacher_scale={better:g}, it is {self.scale:g}."
            yield f"loss.terms.{name} is to follow {followed(told)}, which is {limit}: {fix}"

    def _softmax(self, told: dict[str, float]) -> str | None:
        limits, share = self.limits, told["entropy"]
        if share > limits.flat:
            return f"flat (teacher.audit.flat={limits.flat})"
        return (
            f"one-hot (teacher.audit.one_hot={limits.one_hot})" if share < limits.one_hot else None
        )

    def _margin(self, told: dict[str, float]) -> str | None:
        (least, most), margin = self.limits.margin, told["margin"]
        if least <= margin <= most:
            return None
        kind = "too small" if margin < least else "too large"
        return f"{kind} (teacher.audit.margin={list(self.limits.margin)})"

    def _better(self, told: dict[str, float], score_RG: NDArray[np.float32]) -> float | None:
        """A scale in the middle between the limits; None where no scale makes a difference."""
        limits, (least, most) = self.limits, self.limits.margin
        if "entropy" in told:
            found = scale_of((limits.flat + limits.one_hot) / 2, score_RG)
            return None if found is None else self.scale * found / told["scale"]
        middle = (least * most) ** 0.5 or most / 2
        return self.scale * middle / told["margin"] if told["margin"] else None


def quantiles(values: NDArray[np.float32]) -> dict[str, float]:
    """By their percentage; empty where there are no values."""
    found = np.quantile(values, QUANTILES).tolist() if values.size else []
    return {f"{share:.0%}": value for share, value in zip(QUANTILES, found, strict=False)}


def entropy(score_RG: NDArray[np.float32], scale: float) -> float:
    """Mean entropy of the softmax of scaled scores over a query's passages, over log G."""
    total = 0.0
    for first in range(0, len(score_RG), ROWS):
        scaled_RG = scale * score_RG[first : first + ROWS].astype(np.float64)
        scaled_RG -= scaled_RG.max(axis=1, keepdims=True)
        power_RG = np.exp(scaled_RG)
        sum_R = power_RG.sum(axis=1)
        total += float((np.log(sum_R) - (power_RG * scaled_RG).sum(axis=1) / sum_R).sum())
    return total / len(score_RG) / float(np.log(score_RG.shape[1]))


def scale_of(share: float, score_RG: NDArray[np.float32]) -> float | None:
    """The scale at which a sample has that share of the largest entropy; None where none has."""
    sample_RG = score_RG[:: -(-len(score_RG) // SAMPLE)]
    low, high = -20.0, 20.0  # of its logarithm: the larger, the less entropy
    if entropy(sample_RG, float(np.exp(high))) > share:
        return None
    for _ in range(40):
        middle = (low + high) / 2
        if entropy(sample_RG, float(np.exp(middle))) > share:
            low = middle
        else:
            high = middle
    return float(np.exp(low))


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """An audit in words."""

    def three(values: dict[str, float]) -> str:
        return ", ".join(f"{values[at]:.3g} ({at})" for at in ("5%", "50%", "95%"))

    yield (
        f"teacher: {facts['pairs']:,} pairs, {facts['coverage']:.0%} of them scored; scores times "
        f"{facts['scale']:g}: {three(facts['scores'])}"
    )
    if facts["margins"]:
        yield (
            f"teacher: positive less negative: {three(facts['margins'])}; "
            f"{facts['inverted']:.1%} of negatives above their positive"
        )
    for term, one in facts["targets"].items():
        yield f"teacher: {term} follows {followed(one)}"


def followed(told: dict[str, float]) -> str:
    """What a term follows, in words."""
    if "entropy" in told:
        return f"a softmax of {told['entropy']:.2%} of the largest entropy"
    return f"margins of {told['margin']:.3g} (median)"
