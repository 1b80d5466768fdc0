"""The L0 that vectors are to have: what a configuration says of it, and what cannot be."""

from typing import TYPE_CHECKING, Any

from lion_sweep.config.section import class_behind, plain, require

if TYPE_CHECKING:
    from lion_sweep.config.paradigm import Paradigm

SIDES = ("queries", "passages")  # what a text is to a search


def targets(told: Any) -> dict[str, Any]:
    """By side, of `paradigm.target_l0`: a number is that of both."""
    return dict(told) if isinstance(told, dict) else dict.fromkeys(SIDES, told)


def check_target(key: str, paradigm: "Paradigm") -> None:
    """Refuse a target of vectors without terms, or that nothing here could reach."""
    name, numbers = paradigm.name, targets(paradigm.target_l0)
    said, none = f"{key}.target_l0={plain(paradigm.target_l0)}", f"set {key}.target_l0=null."
    require(
        paradigm.made_by.over_vocabulary,
        f"{said}: only vectors over the vocabulary have terms to count, and paradigm={name} makes "
        f"others: take paradigm=sparse, or {none}",
    )
    for part in ("regulariser", "controller"):
        require(
            bool(getattr(paradigm, part)),
            f"{said} is reached with {key}.regulariser and {key}.controller, and paradigm={name} "
            f"has no {part}: take both from paradigm=sparse, or {none}",
        )
    class_behind(f"{key}.regulariser", paradigm.regulariser, ("query_weight", "passage_weight"))
    require(
        numbers.keys() == set(SIDES) and all(map(_is_number, numbers.values())),
        f"{said}: give a number of terms greater than 0, or one each, as in "
        f"'{key}.target_l0={{queries: 16, passages: 128}}'.",
    )
    for what, number in numbers.items():
        most = paradigm.most_terms(what)
        require(
            most is None or number <= most,
            f"{said}: paradigm={name} keeps no more than {most} terms of {what}: ask for fewer, or "
            "take paradigm=sparse.",
        )
    has = "regulariser", "targets", "check"
    controller = class_behind(f"{key}.controller", paradigm.controller, has)
    controller.check(f"{key}.controller", paradigm.controller)


def _is_number(told: Any) -> bool:
    return isinstance(told, int | float) and not isinstance(told, bool) and told > 0
