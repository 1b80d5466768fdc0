"""The schema of the group `paradigm`: what a text becomes, its vectors, what regularises them."""

from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import II, MISSING

from lion_sweep.config.classes import class_named
from lion_sweep.config.recipe import Attention, TextForm
from lion_sweep.config.section import Section, class_behind, positive, require
from lion_sweep.config.target import SIDES, check_target, targets

# What the class of an encoder has, see models/encoders.py.
OF_A_CLASS = ("kind", "over_vocabulary", "per_token", "projected", "most_terms")
ENCODER = (*OF_A_CLASS, "shape", "rows", "finished", "group_scores_BG", "all_scores_BC")

RECIPES_ATTENTION: Any = II("recipe.attention")


def _recipes_form() -> TextForm:
    """As the recipe says, key by key, where a paradigm does not."""
    return TextForm(**{key.name: II(f"recipe.text.{key.name}") for key in fields(TextForm)})


@dataclass
class TokensOf(Section):
    """What is done to tokens, for an encoder that has a vector for each: data/marks.py."""

    query_marker: str | None = None
    passage_marker: str | None = None
    fill_queries: bool = False
    skip_punctuation: bool = False


@dataclass
class Paradigm(Section):
    """The representation axis."""

    name: str = MISSING
    title: str | None = None  # in tables and figures; None: the name
    encoder: dict[str, Any] = MISSING
    attention: Attention = RECIPES_ATTENTION
    text: TextForm = field(default_factory=_recipes_form)
    temperature: float = MISSING
    teacher_scale: float = MISSING
    regulariser: dict[str, Any] | None = None
    tokens: TokensOf = field(default_factory=TokensOf)
    target_l0: Any = None  # a number, or {queries: , passages: }; None: whatever comes of training
    controller: dict[str, Any] | None = None  # of a target

    def check(self, key: str) -> None:
        positive(self, key, "temperature")
        class_behind(f"{key}.encoder", self.encoder, ENCODER)
        pools, echo = bool(self.encoder.get("echo", False)), self.text.echo
        require(
            pools == echo,
            f"{key}.text.echo={echo} and {key}.encoder.echo={pools}: the encoder pools the second "
            "copy where texts are given twice, and only there. Set both alike, or take an encoder "
            "that has the key.",
        )
        require(
            self.made_by.per_token or self.tokens == TokensOf(),
            f"{key}.tokens is for encoders that have a vector per token, and paradigm={self.name} "
            f"has none: leave {key}.tokens out, or take paradigm=multi-vector.",
        )
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
        found = {what: self.target_of(what) for what in SIDES}
        return {**(self.controller or {}), "regulariser": self.regulariser, "targets": found}

    @property
    def made_by(self) -> Any:
        """The class of the encoder, see models/encoders.py."""
        return class_named(self.encoder["_target_"])

    @property
    def projected(self) -> int:
        """Outputs of the encoder's own linear layer; 0 where it has none."""
        return int(self.made_by.projected(self.encoder))
