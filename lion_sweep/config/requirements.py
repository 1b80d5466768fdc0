"""What sections require of their values: the key, the value, what to type instead."""

import inspect
from collections.abc import Sequence
from typing import Any

from hydra.utils import get_class

from lion_sweep.errors import UserError


def require(condition: bool, message: str) -> None:
    """Refuse with the message where the condition does not hold."""
    if not condition:
        raise UserError(message)


def positive(key: str, value: float | None) -> None:
    """More than 0; None is a value that was not given."""
    require(value is None or value > 0, f"{key}={value} must be greater than 0.")


def share(key: str, value: float, of: str = "a share") -> None:
    """From 0 to 1."""
    require(0 <= value <= 1, f"{key}={value} is {of}: 0 to 1.")


def class_behind(key: str, value: Any, has: Sequence[str] = ()) -> Any:
    """The class behind `_target_`, which must exist, take the other keys, and have these names."""
    require(
        isinstance(value, dict) and "_target_" in value,
        f"{key} must name a class: {key}._target_=package.module.Class",
    )
    try:
        target = get_class(value["_target_"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{key}._target_={value['_target_']} cannot be loaded: {reason}") from None
    known = set(inspect.signature(target).parameters)
    for name in set(value) - {"_target_"} - known:
        raise UserError(
            f"{key}.{name} is not a key of {target.__name__}; it has: {', '.join(sorted(known))}."
        )
    lacks = {name for name in has if not hasattr(target, name) and name not in known}
    lacks |= set(getattr(target, "__abstractmethods__", ()))
    require(
        not lacks,
        f"{key}._target_={value['_target_']}: {target.__name__} lacks {', '.join(sorted(lacks))}, "
        "see CONTRIBUTING.md, Adding something.",
    )
    return target


def says(term: dict[str, Any], attribute: str) -> bool:
    """What the class of a loss term says of itself, as in `needs_teacher = True`."""
    return bool(getattr(get_class(term["_target_"]), attribute, False))
