"""Training groups without the candidates that a teacher takes for relevant ones.

Most mined hits that are labelled irrelevant, and that a good model scores near the positive, are
passages that nobody has judged. Source: Moreira et al., NV-Retriever, 2024 (arXiv 2407.15831),
there TopK-MarginPos.

Shapes: P training pairs, R rows of the parts that these make, M candidates of a pair, G = 1 + M.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.cost.meter import Spending
from lion_sweep.data.batches import Sampler, Step
from lion_sweep.data.collection import SAID
from lion_sweep.data.drawn import Drawn
from lion_sweep.data.groups import MISSING, Groups, join
from lion_sweep.errors import UserError
from lion_sweep.stages.base import Paid
from lion_sweep.stages.groups import GROUPS, Grouped, told
from lion_sweep.stages.scorers import Own
from lion_sweep.stages.teacher import Weighted
from lion_sweep.stages.texts import File
from lion_sweep.stages.workshop import Workshop

PAIRS = 2**16  # that are looked at at once


@dataclass(frozen=True, eq=False)
class Filter(Grouped):
    """Groups, mined or given, without the candidates scored within the margin of their positive.

    What is left keeps its order and its scores, so that a step may draw from fewer candidates than
    it takes: then it takes them in turns. Pairs without any are left out.
    """

    kind = "filter"

    mined: Grouped
    scorers: tuple[Weighted, ...]
    margin: float | None  # in the teacher's scores

    def left(self, groups: Groups, score_PG: NDArray[np.floating[Any]]) -> tuple[Groups, int]:
        """What stays of some, by scores of their positives and candidates; how many do not."""
        return (groups, 0) if self.margin is None else without_false(groups, score_PG, self.margin)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Every candidate of every pair is scored, each text encoded once; what that costs."""
        groups, drawn = self.before(shop), self.drawn(shop)
        score_RG = np.zeros(drawn.step.passage_BG.shape, np.float32)
        for one in self.scorers:
            score_RG += one.weight * one.scorer.scores(drawn, shop)
        parts, dropped = folder / "parts", 0
        shutil.rmtree(parts, ignore_errors=True)
        for first in range(0, len(groups), PAIRS):
            some = slice(first, first + PAIRS)
            part = Groups(*(array[some] for array in vars(groups).values()))
            kept, fewer = self.left(part, score_RG[: len(groups)][some])
            kept.save(parts / f"{first:09}")
            dropped += fewer
        join(sorted(parts.iterdir()), folder / GROUPS)
        shutil.rmtree(parts)
        left = len(Groups.load(folder / GROUPS))
        if not left:
            raise UserError(
                f"negatives.margin={self.margin:g} drops all {dropped:,} candidates of the "
                f"{len(groups):,} training pairs: none is scored below its positive by more than "
                "that. Lower it, or choose another teacher."
            )
        flaws = {"false_negatives": dropped, "without_negatives": len(groups) - left}
        facts, mined = told(shop, left, flaws), shop.run(self.mined).facts
        for what in mined.keys() & SAID.keys():
            facts[what] = mined[what] + facts.get(what, 0)
        return facts | (self._costs(drawn, mined, shop) if self.encodes else {})

    def _costs(self, drawn: Drawn, mined: dict[str, Any], shop: Workshop) -> dict[str, Any]:
        """Of scoring, and of mining where that had any."""
        paid = {stage.name: stage for stage in self.paid(drawn)}
        spent = {name: Spending(**shop.run(one).facts["spent"]) for name, one in paid.items()}
        planned = [one.planned(shop) for one in paid.values()]
        found = {"planned": planned, "spent": list(spent.values())}
        costs: dict[str, Any] = {
            kind: sum(of, Spending(**mined.get(kind, {}))).as_dict() for kind, of in found.items()
        }
        flops = {name: one.useful_flops for name, one in spent.items()}
        return costs | {"parts": mined.get("parts", {}) | flops}

    def drawn(self, shop: Workshop) -> Drawn:
        """All pairs with all candidates, in parts as trainings have them."""
        groups = self.before(shop)
        return Drawn(Every(groups), len(groups))

    def before(self, shop: Workshop) -> Groups:
        """With all candidates."""
        return Groups.load(shop.folder(self.mined) / GROUPS)

    def paid(self, drawn: Drawn) -> tuple[Paid, ...]:
        """What is paid for so that all candidates are scored."""
        return tuple(stage for one in self.scorers for stage in one.scorer.paid(drawn))

    @property
    def listed_in(self) -> File:
        return self.mined.listed_in

    @property
    def encodes(self) -> bool:
        own = all(isinstance(one.scorer, Own) for one in self.scorers)
        return self.mined.encodes or not own


@dataclass(frozen=True, eq=False)
class Rank(Filter):
    """The same, or all of them (no margin), in the order of the teacher's scores, best first.

    Their own scores go with them: a scorer that reads these finds them.
    """

    kind = "rank"
    ranked = True

    def left(self, groups: Groups, score_PG: NDArray[np.floating[Any]]) -> tuple[Groups, int]:
        return super().left(*by_score(groups, score_PG))


class Every(Sampler):
    """A step is a pair with all of its candidates, one pair after the other."""

    def __init__(self, groups: Groups) -> None:
        super().__init__(groups, batch_size=1, negatives=groups.negative_PM.shape[1], seed=0)

    def first(self, steps: int) -> Step:
        """So many pairs; after the last one the last one again, as parts are whole.

        The positive stands where a pair has no more candidates.
        """
        groups, place_R = self.groups, np.minimum(np.arange(steps), len(self.groups) - 1)
        negative_RM, score_RM = groups.negative_PM[place_R], groups.negative_score_PM[place_R]
        positive_R1 = groups.positive_P[place_R, None]
        own_R1 = groups.positive_score_P[place_R, None]
        there_RM = negative_RM != MISSING
        passage_RG = np.c_[positive_R1, np.where(there_RM, negative_RM, positive_R1)]
        score_RG = np.c_[own_R1, np.where(there_RM, score_RM, own_R1)]
        return Step(groups.query_P[place_R], passage_RG, score_RG)


def by_score(
    groups: Groups, score_PG: NDArray[np.floating[Any]]
) -> tuple[Groups, NDArray[np.floating[Any]]]:
    """Groups and scores with candidates by falling score, equal ones as they were."""
    there_PM = groups.negative_PM != MISSING
    order_PM = np.argsort(np.where(there_PM, -score_PG[:, 1:], np.inf), axis=1, kind="stable")
    negative_PM, own_PM, score_PM = (
        np.take_along_axis(np.asarray(of_PM), order_PM, axis=1)
        for of_PM in (groups.negative_PM, groups.negative_score_PM, score_PG[:, 1:])
    )
    arrays = groups.query_P, groups.positive_P, negative_PM, groups.positive_score_P, own_PM
    return Groups(*arrays), np.c_[score_PG[:, :1], score_PM]


def without_false(
    groups: Groups, score_PG: NDArray[np.floating[Any]], margin: float
) -> tuple[Groups, int]:
    """The groups without candidates that score above their positive less the margin; how many.

    `score_PG` are of the positive and the candidates. Pairs that keep none are not there any more.
    """
    there_PM = groups.negative_PM != MISSING
    kept_PM = there_PM & (score_PG[:, 1:] <= score_PG[:, :1] - margin)
    order_PM = np.argsort(~kept_PM, axis=1, kind="stable")
    negative_PM, negative_score_PM = (
        np.take_along_axis(np.where(kept_PM, of, nothing), order_PM, axis=1)
        for of, nothing in (
            (groups.negative_PM, np.int32(MISSING)),
            (groups.negative_score_PM, np.float32(0)),
        )
    )
    some_P = kept_PM.any(axis=1)
    arrays = groups.query_P, groups.positive_P, negative_PM, groups.positive_score_P
    left = Groups(*(array[some_P] for array in (*arrays, negative_score_PM)))
    return left, int(there_PM.sum() - kept_PM.sum())
