"""result.json: what it holds, and its one reader."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from lion_sweep.errors import UserError
from lion_sweep.files import SEAL, intact

RESULT = "result.json"
# Raised when a key changes what it means, or one that is needed comes to be.
FORMAT = 4


class OfAnotherVersion(UserError):
    """A result that is whole, and that this version does not read."""


Means = Mapping[str, float | None]  # by measure; None: not a number


class Result(TypedDict):
    """A finished cell. Names of collections lead to what was found on them."""

    format: int
    id: str
    axes: dict[str, str]
    config: dict[str, Any]  # every key, settled
    ladder: str
    seed: int
    data: str  # the collection that it was trained on
    site: str
    precision: str
    device: dict[str, Any]  # name, peak, how many, seconds of training
    backbone: dict[
        str, Any
    ]  # name, what its weights were, parameters, those of embeddings and head
    teacher: dict[str, Any] | None  # None: no loss reads its scores
    teacher_audit: dict[str, Any]  # its scores as the losses read them, see stages/audit.py
    scores: dict[str, Means]
    untrained: dict[str, Means]
    gain: dict[str, Means]  # in the first measure, and p of a paired randomisation test
    bm25: dict[str, Means]
    entropy: dict[str, float | None]  # contrastive, mean in nats; None: no query has one
    untrained_entropy: dict[str, float | None]
    efficiency: dict[str, dict[str, float]]
    topk: dict[str, dict[str, Any]]  # of sparse cells: scores and costs with fewer terms, by point
    ledger: dict[str, dict[str, Any]]  # planned and spent, by stage
    stages: dict[str, dict[str, Any]]  # folder and seconds, by what the stage is to the cell
    collections: dict[str, dict[str, Any]]
    points: dict[str, Any]  # evaluations while training: whom they asked, what they took
    groups: dict[str, int]  # training pairs, and what was left out of them
    versions: dict[str, str]
    environment: dict[str, Any]  # what else could make two machines differ, see work.py
    files: dict[str, Any]  # [bytes, digest] of those beside it, by their places there


# What a result cannot be without, and what reads as empty where it is missing.
KINDS = {"id": str, "axes": dict, "ladder": str, "seed": int, "data": str, "scores": dict}
OBJECTS = set(Result.__annotations__) - {*KINDS, "format", "site", "precision"}


def read_result(path: Path) -> Result:
    """A result of this version.

    Raises `UserError` naming the file (and the line of a JSON error) for one that is broken, or was
    written by another version. Numbers that are not finite become None: they are no scores.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(record, dict):
        raise UserError(f"{path}: not a JSON object")
    if not intact(record):
        raise UserError(
            f"{path} does not say any more what it said when the cell was finished, so it is not "
            "used: delete it, and the command that made it makes it again, in seconds"
        )
    record = _finite(record)
    record.pop(SEAL, None)
    if record.get("format") != FORMAT:
        raise OfAnotherVersion(
            f"{path} was written by another version of lion_sweep, so it is not used: the command "
            "that made it, given again, makes a new one beside it"
        )
    for key, kind in KINDS.items():
        if not isinstance(record.get(key), kind):
            raise UserError(f"{path}: key '{key}' is missing or not of type {kind.__name__}")
    for collection, scores in record["scores"].items():
        if not isinstance(scores, dict) or not all(
            isinstance(value, int | float | None) for value in scores.values()
        ):
            raise UserError(f"{path}: scores of '{collection}' are not numbers by measure")
    for key in sorted(OBJECTS):
        if not isinstance(record.get(key) or {}, dict):
            raise UserError(f"{path}: key '{key}' is not an object")
        record.setdefault(key, None if key == "teacher" else {})
    result: Result = record
    return result


def _finite(value: Any) -> Any:
    """The same with None for what is not a number."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def of_another(path: Path) -> bool:
    """Whether another version wrote the result, or nobody can read it."""
    try:
        read_result(path)
    except UserError:
        return True
    return False
