"""A small collection whose pairs a teacher scores, and a course that draws them alone."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Config
from lion_sweep.config.site import SiteName
from lion_sweep.cost.meter import Spending
from lion_sweep.data.batches import Step
from lion_sweep.data.drawn import Drawn
from lion_sweep.data.groups import Groups
from lion_sweep.machine.progress import Progress
from lion_sweep.machine.site import settle
from lion_sweep.stages.course import Draws
from lion_sweep.stages.groups import GROUPS, groups_of
from lion_sweep.stages.scorers import Scorer
from lion_sweep.stages.teacher import SCORES, Teach, teacher_of
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.workshop import Workshop

# Words that are their own stems, and none a stop word.
WORDS = ["lion", "zebra", "river", "stone", "cloud", "grass", "wind", "moon"]
# No training pair speaks of the first query, nor of the first document.
QUERIES = {
    "q9": "grass",
    "q2": "river stone",
    "q0": "lion",
    "q1": "zebra wind moon grass lion cloud stone",
}
QRELS = {"q0": ["d3", "d1"], "q1": ["d7"], "q2": ["d0"]}


def documents() -> dict[str, str]:
    """Of two to nine words each, in an order that is not that of their ids."""
    rng = np.random.default_rng(3)
    named = {f"d{n}": " ".join(rng.choice(WORDS, rng.integers(2, 10))) for n in (5, 3, 0, 7, 1, 2)}
    return {"d9": "silence"} | named


DOCUMENTS = documents()


def write_collection(root: Path) -> Path:
    """In BEIR's layout; its queries lie in another order than their judgements."""
    (root / "qrels").mkdir(parents=True)
    for name, held in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in held.items()]
        (root / f"{name}.jsonl").write_text("\n".join(lines))
    judged = [f"{q}\t{d}\t1" for q, relevant in QRELS.items() for d in relevant]
    for split in ("train", "test"):
        (root / "qrels" / f"{split}.tsv").write_text("\n".join(judged))
    return root


@dataclass(frozen=True)
class Steps:
    """A course of so many steps, whatever its texts and its decoder."""

    draws: Draws
    steps: int

    def spending(self, shop: Workshop) -> Spending:
        """It has no cost."""
        return Spending(steps=self.steps)


def teacher(config: Config, steps: int = 20) -> tuple[Teach, Workshop]:
    """The teacher of a course, and who does it."""
    shop = Workshop(Path(config.paths.root), Progress("cell", None))
    config = settle(config, SiteName.laptop)
    pairs, _ = evaluation_sets(config, shop)[config.data.name]
    draws = Draws(groups_of(config, shop, pairs), 2, 2, seed=1)
    return teacher_of(config, shop, pairs, Steps(draws, steps)), shop  # type: ignore[arg-type]


def taught(config: Config) -> tuple[Step, Groups]:
    """The steps of a course with the teacher's scores, and what they are drawn from."""
    teach, shop = teacher(config)
    draws, done = teach.course.draws, shop.run(teach)
    sampler = draws.sampler(shop, done.folder / SCORES)
    steps = [sampler.step(number) for number in range(done.facts["steps"])]
    assert len(steps) >= 20
    step = Step(
        *(
            np.concatenate([getattr(one, name) for one in steps])
            for name in ("query_B", "passage_BG", "teacher_BG")
        )
    )
    return step, Groups.load(shop.folder(draws.groups) / GROUPS)


@dataclass(frozen=True)
class Holes(Scorer):
    """A scorer that has no score of the third pair."""

    def scores(self, drawn: Drawn, shop: Workshop) -> NDArray[np.float32]:
        """The groups' own, but for that."""
        score_RG = drawn.step.teacher_BG.copy()
        score_RG.flat[2] = np.nan
        return score_RG
