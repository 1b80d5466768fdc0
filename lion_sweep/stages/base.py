"""What a stage is: a piece of work that is done once for each distinct specification.

A stage is an object. Its inputs are other stages, its fields are what its work reads, and its key
follows from these by construction: nobody lists a key by hand. What a field holds stands in the key

- of a stage, by that stage's name;
- of content (texts, a file, weights), by its digest, whatever it is called and wherever it lies;
- of a dataclass, by its fields, and of anything else by its value.

Fields that change no number (`beside`: titles, places) stand in no key, and neither does how the
work is carried out (execution.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lion_sweep.files import key_of

if TYPE_CHECKING:
    from lion_sweep.cost.meter import Spending
    from lion_sweep.stages.workshop import Workshop


def beside(default: Any = MISSING) -> Any:
    """A field that no number depends on."""
    return field(default=default, kw_only=True, compare=False)


def identity(value: Any) -> Any:
    """What stands in a key for a value, as JSON; `TypeError` where it tells nothing of itself."""
    if (own := getattr(value, "identity", None)) is not None:
        return identity(own)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    if is_dataclass(value):
        return identity(_keyed(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} has no identity: it cannot stand in a stage's key")


def _keyed(value: Any) -> dict[str, Any]:
    return {entry.name: getattr(value, entry.name) for entry in fields(value) if entry.compare}


@dataclass(frozen=True, eq=False)
class Stage(ABC):
    """A piece of work, the same where its name is; a frozen dataclass with `eq=False`."""

    kind: ClassVar[str]  # how the names of its folders begin
    RULES: ClassVar[int] = 1  # raised when the code changes what comes out of the same fields
    together: ClassVar[bool] = False  # whether all ranks do the work, or the leader alone
    # On the progress line and in results, beside every key; the kind where nothing else is said.
    title: str = field(default="", kw_only=True, compare=False)

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.kind)

    @cached_property
    def specification(self) -> dict[str, Any]:
        """All that can change what comes out."""
        return {"stage": type(self).__name__, "rules": self.RULES, **identity(_keyed(self))}

    @cached_property
    def name(self) -> str:
        return f"{self.kind}-{key_of(self.specification)}"

    @property
    def identity(self) -> str:
        """What stands for it in the keys of the stages that read it."""
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stage) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    @cached_property
    def inputs(self) -> tuple["Stage", ...]:
        """The stages that it reads, in the order of its fields."""
        return tuple(_stages([getattr(self, entry.name) for entry in fields(self)]))

    @abstractmethod
    def work(self, shop: "Workshop", folder: Path) -> dict[str, Any]:
        """Do it, into `folder`; returns facts to remember, as JSON."""


class Paid(Stage):
    """A stage whose facts say under `spent` what it cost."""

    @abstractmethod
    def planned(self, shop: "Workshop") -> "Spending":
        """What it is to cost, before it is done."""


def _stages(value: Any) -> list[Stage]:
    if isinstance(value, Stage):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    elif is_dataclass(value):
        value = [getattr(value, entry.name) for entry in fields(value)]
    parts = value if isinstance(value, list | tuple) else []
    return [stage for part in parts for stage in _stages(part)]


def ancestry(stages: Iterable[Stage]) -> dict[str, Stage]:
    """These stages and all that they are made from, by title, what is read before what reads it.

    Raises `ValueError` where two different stages have one title: a result would name only one.
    """
    found: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        known = found.get(stage.title)
        if known is not None:
            if known != stage:
                raise ValueError(f"{known.name} and {stage.name} are both called {stage.title!r}")
            return
        for one in stage.inputs:
            visit(one)
        found[stage.title] = stage

    for stage in stages:
        visit(stage)
    return found
