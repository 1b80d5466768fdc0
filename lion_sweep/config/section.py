"""What all sections of the configuration have in common: once settled, nothing in them changes.

And what they require of their values: the key, the value, what to type instead.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from hydra.errors import InstantiationException

from lion_sweep.config.classes import class_named, made
from lion_sweep.errors import UserError

FROZEN = "_frozen"


class Section:
    """A part of the configuration. A settled one is replaced (`changed`), never changed."""

    def check(self, key: str) -> None:
        """Refuse what this section, whose own key is given, alone shows to be impossible."""

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get(FROZEN):
            raise AttributeError(f"{type(self).__name__}.{name}: a settled section never changes")
        super().__setattr__(name, value)


S = TypeVar("S", bound=Section)


def sections(section: Section, key: str = "") -> Iterator[tuple[str, Section]]:
    """(key, section) of a section, whose own key is given, and of all below it."""
    yield key, section
    for name, value in vars(section).items():
        if isinstance(value, Section):
            yield from sections(value, f"{key}.{name}" if key else name)


def frozen(section: S) -> S:
    """The section, unchangeable from now on, as is all below it."""
    for _, part in sections(section):
        part.__dict__[FROZEN] = True
    return section


def changed(section: S, values: dict[str, Any]) -> S:
    """A frozen copy in which some keys, as in `site.devices`, have other values."""
    for key, value in values.items():
        head, _, rest = key.partition(".")
        inner = changed(getattr(section, head), {rest: value}) if rest else value
        section = replace(section, **{head: inner})  # type: ignore[type-var]
    return frozen(section)


def plain(value: Any, *, keep_sections: bool = False) -> Any:
    """Enumerations by name, everything else as JSON has it; sections as mappings, unless kept."""
    if is_dataclass(value) and not keep_sections:
        value = {entry.name: getattr(value, entry.name) for entry in fields(value)}
    if isinstance(value, dict):
        return {key: plain(item, keep_sections=keep_sections) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, keep_sections=keep_sections) for item in value]
    return value.name if isinstance(value, Enum) else value


def require(condition: bool, message: str) -> None:
    """Refuse with the message where the condition does not hold."""
    if not condition:
        raise UserError(message)


def positive(section: Section, key: str, *names: str) -> None:
    """These values of a section must be more than 0; None is a value that was not given."""
    for name in names:
        value = getattr(section, name)
        require(value is None or value > 0, f"{key}.{name}={value} must be greater than 0.")


def share(key: str, value: float, of: str = "a share") -> None:
    """From 0 to 1."""
    require(0 <= value <= 1, f"{key}={value} is {of}: 0 to 1.")


def built(key: str, value: Any) -> Any:
    """What `_target_` and its settings make; `UserError` where the class refuses them."""
    try:
        return made(value)
    except InstantiationException as error:
        raise UserError(f"{key}: {error.__cause__ or error}") from None


def class_behind(key: str, value: Any, has: Sequence[str] = ()) -> Any:
    """The class behind `_target_`, which must exist, take the other keys, and have these names."""
    require(
        isinstance(value, dict) and "_target_" in value,
        f"{key} must name a class: {key}._target_=package.module.Class",
    )
    try:
        target = class_named(value["_target_"])
    except UserError as error:
        raise UserError(f"{key}.{error}") from None
    entries = list(inspect.signature(getattr(target, "of", target)).parameters.values())
    if any(entry.kind is entry.VAR_KEYWORD for entry in entries):  # which it hands on
        entries += (e for one in target.__mro__ for e in inspect.signature(one).parameters.values())
    known = {entry.name for entry in entries if entry.kind is not entry.VAR_KEYWORD}
    lacks = {name for name in has if not hasattr(target, name) and name not in known}
    lacks |= set(getattr(target, "__abstractmethods__", ()))
    require(
        not lacks,
        f"{key}._target_={value['_target_']}: {target.__name__} lacks {', '.join(sorted(lacks))}, "
        "see CONTRIBUTING.md, Adding something.",
    )
    for name in set(value) - {"_target_"} - known:
        raise UserError(
            f"{key}.{name} is not a key of {target.__name__}; it has: {', '.join(sorted(known))}."
        )
    return target
