"""Published numbers that stand beside a full ladder's: conf/reference/*.yaml, and who says them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lion_sweep.config.composing import config_folder
from lion_sweep.errors import UserError

KEYS = {"name", "title", "source", "url", "second_hand", "note", "scores", "means"}
ALL, NONE = "all", "none"

Numbers = Mapping[str, Mapping[str, float]]  # by collection or group, by measure


@dataclass(frozen=True)
class Reference:
    """A published system. None of its numbers was measured here.

    `means` are over the sets of a group, of which there have to be as many as `sets` says, if it
    does.
    """

    name: str
    title: str
    source: str
    url: str
    second_hand: bool
    scores: Numbers
    means: Numbers
    sets: Mapping[str, int]

    @property
    def row(self) -> str:
        """What tables call it."""
        return f"{self.title} ({'cited second-hand' if self.second_hand else 'published'})"

    @property
    def cited(self) -> str:
        """The line below a table that shows it."""
        how = "cited second-hand, not measured here" if self.second_hand else "not measured here"
        return f"{self.row}: {how}, not tested; {self.source}, {self.url}."


def published(
    references: Sequence[Reference], ladder: str, collection: str, measure: str
) -> list[tuple[Reference, float]]:
    """Those with a number of the measure on the collection; none beside stand-ins."""
    if ladder != "full":
        return []
    told = ((one, one.scores.get(collection, {}).get(measure)) for one in references)
    return [(one, value) for one, value in told if value is not None]


def read_references(asked: str, folder: Path | None = None) -> tuple[Reference, ...]:
    """Those that are asked for: none, all, or names with commas between them.

    Raises `UserError` for a name that there is no file of, and for a file that cannot be read.
    """
    if asked == NONE:
        return ()
    where = folder or config_folder() / "reference"
    paths = {path.stem: path for path in sorted(where.glob("*.yaml"))}
    names = list(paths) if asked == ALL else list(dict.fromkeys(asked.split(",")))
    if unknown := [name for name in names if name not in paths]:
        raise UserError(
            f"--references: there is no '{unknown[0]}'; say {NONE}, {ALL}, or of "
            f"{', '.join(paths) or 'nothing'} those you want, with commas between them"
        )
    return tuple(_read(paths[name]) for name in names)


def _read(path: Path) -> Reference:
    try:
        told = yaml.safe_load(path.read_text("utf-8"))
        if not isinstance(told, dict) or (more := told.keys() - KEYS):
            raise ValueError(
                f"unknown keys {sorted(more)}" if isinstance(told, dict) else "no keys"
            )
        means = told.get("means") or {}
        return Reference(
            name=str(told["name"]),
            title=str(told["title"]),
            source=str(told["source"]),
            url=str(told["url"]),
            second_hand=bool(told.get("second_hand", False)),
            scores={name: _numbers(of) for name, of in (told.get("scores") or {}).items()},
            means={name: _numbers(of) for name, of in means.items()},
            sets={name: int(of["sets"]) for name, of in means.items() if "sets" in of},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: {said}; its keys are {', '.join(sorted(KEYS))}") from None


def _numbers(told: Mapping[str, Any]) -> dict[str, float]:
    """By measure; raises ValueError for what is no score between 0 and 1."""
    found = {measure: float(value) for measure, value in told.items() if measure != "sets"}
    for measure, value in found.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{measure} {value:g} is not between 0 and 1")
    return found
