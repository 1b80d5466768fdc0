"""The schema of the group `paradigm`: what a text becomes, its vectors, what regularises them."""

from dataclasses import dataclass, field, fields
from typing import Any

from hydra.utils import get_class
from omegaconf import II, MISSING

from lion_sweep.config.recipe import Attention, TextForm
from lion_sweep.config.section import Section, class_behind, plain, positive, require

# What the class of an encoder has, see models/encoders.py.
OF_A_CLASS = ("kind", "over_vocabulary", "per_token", "projected", "most_terms")
ENCODER = (*OF_A_CLASS, "shape", "rows", "finished", "group_scores_BG", "all_scores_BC")
SIDES = ("queries", "passages")  # what such a class is told of a text

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
            self._check_target(key)

    def _check_target(self, key: str) -> None:
        said, none = f"{key}.target_l0={plain(self.target_l0)}", f"set {key}.target_l0=null."
        require(
            self.made_by.over_vocabulary,
            f"{said}: only vectors over the vocabulary have terms to count, and "
            f"paradigm={self.name} makes others: take paradigm=sparse, or {none}",
        )
        for part in ("regulariser", "controller"):
            require(
                bool(getattr(self, part)),
                f"{said} is reached with {key}.regulariser and {key}.controller, and "
                f"paradigm={self.name} has no {part}: take both from paradigm=sparse, or {none}",
            )
        class_behind(f"{key}.regulariser", self.regulariser, ("query_weight", "passage_weight"))
        numbers = self._targets()
        require(
            numbers.keys() == set(SIDES)
            and all(
                isinstance(one, int | float) and not isinstance(one, bool) and one > 0
                for one in numbers.values()
            ),
            f"{said}: give a number of terms greater than 0, or one each, as in "
            f"'{key}.target_l0={{queries: 16, passages: 128}}'.",
        )
        for what, number in numbers.items():
            most = self.most_terms(what)
            require(
                most is None or number <= most,
                f"{said}: paradigm={self.name} keeps no more than {most} terms of {what}: ask for "
                f"fewer, or take paradigm=sparse.",
            )
        has = "regulariser", "targets", "check"
        class_behind(f"{key}.controller", self.controller, has).check(
            f"{key}.controller", self.controller
        )

    def _targets(self) -> dict[str, Any]:
        told = self.target_l0
        return dict(told) if isinstance(told, dict) else dict.fromkeys(SIDES, told)

    def target_of(self, what: str) -> float | None:
        """The mean L0 that vectors of `queries` or `passages` are to have, if any."""
        return None if self.target_l0 is None else float(self._targets()[what])

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

    @property
    def projected(self) -> int:
        """Outputs of the encoder's own linear layer; 0 where it has none."""
        return int(self.made_by.projected(self.encoder))
