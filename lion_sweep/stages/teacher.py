"""The teacher of a training: scores of the pairs that its steps draw, and of no others.

Shapes: R rows (the queries of all steps, one step after the other), G = 1 + negatives.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Config
from lion_sweep.config.classes import class_named
from lion_sweep.cost.meter import Spending
from lion_sweep.data import arrays
from lion_sweep.data.drawn import Drawn
from lion_sweep.errors import UserError
from lion_sweep.files import key_of
from lion_sweep.stages.base import Paid, Stage, identity
from lion_sweep.stages.course import Course
from lion_sweep.stages.scorers import Scorer
from lion_sweep.stages.texts import Source
from lion_sweep.stages.workshop import Workshop

SCORES = "scores.npy"


@dataclass(frozen=True)
class Weighted:
    """A scorer, the class that it is of with its `RULES`, and its share of the sum."""

    scorer: Scorer
    target: str
    rules: int
    weight: float


@dataclass(frozen=True, eq=False)
class Teach(Stage):
    """The weighted sum of some scorers, for every pair of a course, [R, G]."""

    kind = "teacher"
    RULES = 2

    course: Course
    scorers: tuple[Weighted, ...]

    @property
    def family(self) -> str:
        """The same of all courses whose pairs these scorers may share."""
        return key_of({"groups": self.course.draws.groups.name, "by": identity(self.scorers)})

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """What the scores cost. Raises `UserError` where a pair has none."""
        drawn = Drawn(self.course.draws.sampler(shop), self.course.spending(shop).steps)
        score_RG = np.zeros_like(drawn.step.teacher_BG)
        for one in self.scorers:
            score_RG += one.weight * self._whole(one, drawn, shop)
        arrays.save(folder / SCORES, score_RG)
        paid = self._paid(drawn)
        planned = (stage.planned(shop) for stage in paid.values())
        spent = {name: Spending(**shop.run(one).facts["spent"]) for name, one in paid.items()}
        return {
            "steps": drawn.steps,
            "planned": sum(planned, Spending()).as_dict(),
            "spent": sum(spent.values(), Spending()).as_dict(),
            "parts": {name: one.useful_flops for name, one in spent.items()},
        }

    def _whole(self, one: Weighted, drawn: Drawn, shop: Workshop) -> NDArray[np.float32]:
        """The scores of a scorer, which must have one of every pair."""
        score_RG, step = one.scorer.scores(drawn, shop), drawn.step
        lost = np.argwhere(~np.isfinite(score_RG))
        if len(lost):
            row, place = lost[0]
            course, rows = self.course, (step.query_B[row], step.passage_BG[row, place])
            texts = course.queries.cache.texts, course.passages.cache.texts
            query, passage = (
                stage.read(shop).ids[int(number)] for stage, number in zip(texts, rows, strict=True)
            )
            raise UserError(
                f"{one.target} in teacher.scorers has no score for {len(lost):,} of "
                f"{score_RG.size:,} pairs, such as query {query!r} and passage {passage!r}: give "
                "it all of them, or choose another teacher."
            )
        return score_RG

    def _paid(self, drawn: Drawn) -> dict[str, Paid]:
        return {stage.name: stage for one in self.scorers for stage in one.scorer.paid(drawn)}

    def paid(self, shop: Workshop, steps: int) -> dict[str, Paid]:
        """By name, what is to be paid for where the course has so many steps."""
        return self._paid(Drawn(self.course.draws.sampler(shop), steps))


@dataclass(frozen=True, eq=False)
class TeachAll(Stage):
    """What several courses learn of one teacher, in one job, as they share most of it."""

    kind = "teach"

    courses: tuple[Teach, ...]

    @classmethod
    def of(cls, found: Iterable[Teach | None]) -> "TeachAll":
        by_name = {stage.name: stage for stage in found if stage}
        return cls(tuple(by_name[name] for name in sorted(by_name)))

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        return {}


def teacher_of(config: Config, shop: Workshop, pairs: Source, course: Course) -> Teach:
    """A cell's teacher on what it trains on."""
    return Teach(course, scorers_of(config, shop, pairs))


def scorers_of(config: Config, shop: Workshop, pairs: Source) -> tuple[Weighted, ...]:
    """Of a cell's teacher; what has no weight is left out.

    Raises `UserError` where a scorer's model cannot be had.
    """
    scorers = []
    for name, told in config.teacher.scorers.items():
        settings = {key: value for key, value in told.items() if key not in ("_target_", "weight")}
        if told["weight"]:
            made: type[Scorer] = class_named(told["_target_"])
            try:
                scorer = made.of(name, pairs, shop, **settings)
            except OSError as error:
                raise UserError(
                    f"teacher.scorers.{name} cannot be had: {str(error).splitlines()[0]} Give it "
                    "a folder that holds the model, or choose teacher=minilm or teacher=bm25."
                ) from None
            scorers.append(Weighted(scorer, told["_target_"], made.RULES, told["weight"]))
    return tuple(scorers)
