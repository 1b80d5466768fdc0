"""The teacher's scores of the training groups."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.config.schema import Config, Teacher
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.collection import Collection
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.teacher import Encoder, encoder_source, teach
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.negatives import GROUPS, Given, Mine
from lion_sweep.stages.tokens import Tokenise
from lion_sweep.stages.workshop import Workshop


@dataclass(frozen=True)
class TeacherEncoder:
    """A sentence encoder, and the tokens that it reads."""

    weights: Pretrained
    queries: Tokenise
    passages: Tokenise

    def ready(self, shop: Workshop) -> Encoder:
        """With its tokens read and its prices known; no weights are loaded."""
        weights, caches, length = self.weights, (self.queries, self.passages), self.queries.length
        queries, passages = (cache.cut(length).read(shop) for cache in caches)
        meter = Meter.of_teacher(weights.config(), length)
        return Encoder(weights.source, queries, passages, meter, weights.revision)


@dataclass(frozen=True, eq=False)
class Teach(Stage):
    """The groups with a weighted sum of their own scores and an encoder's cosines."""

    kind = "teacher"

    groups: Mine | Given
    own_weight: float
    encoder_weight: float
    encoder: TeacherEncoder | None
    teacher: str = beside()  # as messages name it
    title: str = beside("teacher")

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """How often a negative is scored above its positive, and what the scores cost."""
        mined = Groups.load(shop.folder(self.groups) / GROUPS)
        encoder = self.encoder.ready(shop) if self.encoder else None
        settings = Teacher(self.teacher, None, self.encoder_weight, self.own_weight)
        taught, spent = teach(mined, settings, encoder, shop.progress.step)
        taught.save(folder / GROUPS)
        inverted = taught.negative_score_PM > taught.positive_score_P[:, None]
        return {
            "inverted_margins": float(inverted[mined.negative_PM != MISSING].mean()),
            "planned": self.planned(shop).as_dict(),
            "spent": spent.as_dict(),
        }

    def planned(self, shop: Workshop) -> Spending:
        """What the scores should cost."""
        if self.encoder is None:
            return Spending()
        mined = Groups.load(shop.folder(self.groups) / GROUPS)
        return self.encoder.ready(shop).planned(mined)


def teacher_of(config: Config, shop: Workshop, pairs: Collection, groups: Mine | Given) -> Teach:
    """A cell's teacher on its training groups."""
    teacher, encoder = config.teacher, None
    if teacher.encoder and teacher.encoder_weight:
        source = encoder_source(teacher.encoder)
        tokenizer = Pretrained.tokenizer(source, shop.digests)
        encoder = TeacherEncoder(
            Pretrained.weights(source, shop.digests),
            Tokenise(pairs.queries, tokenizer, teacher.length, title="teacher query tokens"),
            Tokenise(pairs.documents, tokenizer, teacher.length, title="teacher passage tokens"),
        )
    weight = teacher.encoder_weight if encoder else 0.0
    return Teach(groups, teacher.bm25_weight, weight, encoder, teacher=teacher.name)
