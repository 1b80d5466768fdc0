"""Claims that a report can test, as a file says them: conf/findings/study.yaml has their form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lion_sweep.config.composing import config_folder
from lion_sweep.errors import UserError
from lion_sweep.report.axes import Axes, Cell

LARGEST, SMALLEST = "largest", "smallest"
FORM = (
    "a statement has a title and one of compare: {better: CELLS, than: CELLS}, grows: {along: KEY, "
    "where: CELLS, not_where: CELLS}, best: CELLS; CELLS are values by key, as in {loss: cl}"
)


class Impossible(Exception):
    """The cells here cannot say anything about a statement; the message says why."""


@dataclass(frozen=True)
class Selection:
    """Cells that have one of the given values of every key."""

    values: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        told = (f"{key}={','.join(values)}" for key, values in self.values.items())
        return " ".join(told) or "any"

    def settled(self, axes: Axes) -> "Selection":
        """With whole keys, values in place of `largest` and `smallest`, and ids of named cells.

        Raises `Impossible` for a key that does not tell cells apart here, or has no order, and for
        a name that several cells have.
        """
        found = {}
        for word, values in self.values.items():
            key = whole_key(word, axes)
            found[key] = tuple(_value(key, value, axes) for value in values)
        return Selection(found)

    def holds(self, cell: Cell) -> bool:
        """Whether the cell, of whole keys, is one of them."""
        return all(cell[key] in values for key, values in self.values.items())


def whole_key(word: str, axes: Axes) -> str:
    """The key of the axes that a statement names by its last words. Raises `Impossible`."""
    found = [k for k in axes.keys if k == word] or [k for k in axes.keys if k.endswith(f".{word}")]
    if len(found) != 1:
        raise Impossible(f"cells here do not differ in one key '{word}'")
    return found[0]


def _value(key: str, value: str, axes: Axes) -> str:
    if value not in (LARGEST, SMALLEST):
        id_of_it = re.compile(rf"{re.escape(value)}-[0-9a-f]{{12}}")
        named = [known for known in axes.values(key) if id_of_it.fullmatch(known)]
        if len(named) > 1:
            raise Impossible(f"{key}={value} may be {' or '.join(named)}")
        return named[0] if named else value
    if not axes.ascend(key):
        raise Impossible(f"{key} has no order here, so none is the {value}")
    return axes.values(key)[-1 if value == LARGEST else 0]


@dataclass(frozen=True)
class Statement:
    """A claim: its name in the file, what tables call it, and one of three forms."""

    name: str
    title: str


@dataclass(frozen=True)
class Compare(Statement):
    """Cells of `better` are above those of `than` that equal them in all else."""

    better: Selection
    than: Selection


@dataclass(frozen=True)
class Grows(Statement):
    """Scores rise along a key `where`, and more than `not_where`, where they must not rise."""

    along: str
    where: Selection
    not_where: Selection | None


@dataclass(frozen=True)
class Best(Statement):
    """The one cell of the selection is above all others."""

    cell: Selection


def study() -> Path:
    """The file of the study's claims, which is shipped."""
    return config_folder() / "findings" / "study.yaml"


def read_statements(path: Path) -> tuple[Statement, ...]:
    """The statements of a file. Raises `UserError` naming the file, the statement and the form."""
    try:
        told = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"--findings: {path} cannot be read ({error.strerror})") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"--findings: {path}: {' '.join(str(error).split())}") from None
    return statements_of(told, path)


def statements_of(told: Any, path: Path) -> tuple[Statement, ...]:
    """Those of what a file holds. Raises `UserError` as `read_statements` does."""
    if not isinstance(told, dict):
        raise UserError(f"--findings: {path} holds no statements by name; {FORM}")
    found = []
    for name, record in told.items():
        try:
            found.append(_statement(str(name), dict(record)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else error
            raise UserError(f"--findings: {path}, '{name}': {said}; {FORM}") from None
    return tuple(found)


def _statement(name: str, record: dict[str, Any]) -> Statement:
    title = str(record.pop("title"))
    if len(record) != 1:
        raise ValueError(f"it has {' and '.join(map(str, record)) or 'nothing'} beside its title")
    [(kind, told)] = record.items()
    if kind == "best":
        return Best(name, title, _selection(told))
    known = {"compare": {"better", "than"}, "grows": {"along", "where", "not_where"}}
    if kind not in known:
        raise ValueError(f"'{kind}' is no form of a statement")
    if more := sorted(dict(told).keys() - known[kind]):
        raise ValueError(f"'{more[0]}' is no part of {kind}")
    if kind == "compare":
        better, than = _selection(told["better"]), _selection(told["than"])
        if better.values.keys() != than.values.keys():
            raise ValueError("better and than name different keys")
        return Compare(name, title, better, than)
    other = told.get("not_where")
    not_where = None if other is None else _selection(other)
    return Grows(name, title, str(told["along"]), _selection(told.get("where", {})), not_where)


def _selection(told: Mapping[str, Any]) -> Selection:
    lists = {key: value if isinstance(value, list) else [value] for key, value in told.items()}
    return Selection({str(key): tuple(map(str, values)) for key, values in lists.items()})
