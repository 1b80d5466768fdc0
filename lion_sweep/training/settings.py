"""What a training is, apart from its data: everything that the loops read besides texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lion_sweep.config import Config
from lion_sweep.config.recipe import Recipe


@dataclass(frozen=True)
class Optimisation:
    """AdamW and its schedule."""

    learning_rate: float
    embedding_rate: float | None  # of embedding and head rows; None: they are frozen
    warmup: float  # share of the steps
    weight_decay: float
    clip: float  # largest norm of the gradient
    betas: tuple[float, float]
    epsilon: float

    @classmethod
    def of(
        cls, recipe: Recipe, learning_rate: float, embedding_rate: float | None
    ) -> "Optimisation":
        """The recipe's, at these rates."""
        first, second = recipe.betas
        return cls(
            learning_rate,
            embedding_rate,
            recipe.warmup,
            recipe.weight_decay,
            recipe.clip,
            (first, second),
            recipe.epsilon,
        )


@dataclass(frozen=True)
class Supervision:
    """The objective: named loss terms over scores, and the regulariser of vectors."""

    sparse: bool  # vectors are over the vocabulary, 0 nearly everywhere
    temperature: float  # divides every score
    teacher_scale: float | None  # multiplies the teacher's; None where no term reads them
    terms: Mapping[str, Any]
    regulariser: Mapping[str, Any] | None

    @classmethod
    def of(cls, config: Config) -> "Supervision":
        """A cell's."""
        paradigm, loss = config.paradigm, config.loss
        terms, temperature = paradigm.made_by.over_vocabulary, paradigm.temperature
        scale = paradigm.teacher_scale if loss.needs_teacher else None
        return cls(terms, temperature, scale, loss.terms, paradigm.regulariser)
