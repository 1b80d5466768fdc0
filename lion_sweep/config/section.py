"""What all sections of the configuration have in common: once settled, nothing in them changes."""

from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

FROZEN = "_frozen"


class Section:
    """A part of the configuration. A settled one is replaced (`changed`), never changed."""

    def check(self, key: str) -> None:
        """Refuse what this section alone shows to be impossible; `key` is its own, as in `site`.

        Raises `UserError` with what to type instead.
        """

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get(FROZEN):
            raise AttributeError(f"{type(self).__name__}.{name}: a settled section never changes")
        super().__setattr__(name, value)


def check_all(section: Section, key: str = "") -> None:
    """Have a section and all below it check themselves."""
    section.check(key)
    for entry in fields(section):  # type: ignore[arg-type]
        value = getattr(section, entry.name)
        if isinstance(value, Section):
            check_all(value, f"{key}.{entry.name}" if key else entry.name)


S = TypeVar("S", bound=Section)


def frozen(section: S) -> S:
    """The section, which nobody can change any more, nor what lies below it."""
    for entry in fields(section):  # type: ignore[arg-type]
        value = getattr(section, entry.name)
        if isinstance(value, Section):
            frozen(value)
    section.__dict__[FROZEN] = True
    return section


def changed(section: S, values: dict[str, Any]) -> S:
    """A frozen copy in which some keys, as in `site.devices`, have other values."""
    own: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        head, _, rest = key.partition(".")
        if rest:
            below.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    own |= {head: changed(getattr(section, head), inner) for head, inner in below.items()}
    return frozen(replace(section, **own))  # type: ignore[type-var]


def unenumerated(value: Any) -> Any:
    """Enumerations in mappings and lists by name; sections stay what they are."""
    if isinstance(value, dict):
        return {key: unenumerated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unenumerated(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def plain(value: Any) -> Any:
    """Sections as mappings, enumerations by name, everything else as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    return value.name if isinstance(value, Enum) else value
