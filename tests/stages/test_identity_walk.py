"""Every key of the configuration: what it changes, its stages' names say, and nothing else.

A stage is known by its name. So a name must stand for one content: whatever key is changed, a cell
made anew has in the stages that kept their names what it had there before. That is tried for every
key of the schema, and a key that is missing here fails the test.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from identity_table import (
    CELL,
    DENSE,
    ELSEWHERE,
    FLOPS,
    HOW,
    MORE,
    MULTI,
    NOTHING,
    SPARSE,
    TARGET,
    WALK,
)
from stage_contents import contents, done, same

from lion_sweep.cell.cell import Cell
from lion_sweep.config.section import Section

SmallCell = Callable[..., Cell]


def overriding(base: list[str], more: list[str]) -> list[str]:
    """Both, of a key the last word."""
    return list({word.lstrip("+").split("=")[0]: word for word in [*base, *more]}.values())


def words(key: str, value: str | list[str]) -> list[str]:
    """The overrides that change a key."""
    return value if isinstance(value, list) else [f"{key}={value}"]


def leaves(section: Section, path: str = "") -> Iterator[str]:
    """Every key of the schema."""
    for entry in fields(section):  # type: ignore[arg-type]
        key, value = f"{path}{entry.name}", getattr(section, entry.name)
        yield from leaves(value, f"{key}.") if isinstance(value, Section) else [key]


def test_no_key_is_forgotten(small_cell: SmallCell) -> None:
    known = [*WALK, *HOW, *ELSEWHERE]
    assert len(known) == len(set(known))
    assert set(leaves(small_cell(*SPARSE).config)) == set(known)


def changed(before: Cell, after: Cell) -> str:
    """The first stage whose name differs, what is read before what reads it."""
    for title, stage in after.stages.roles.items():
        known = before.stages.roles.get(title)
        if known is not None and known != stage:
            return title
    return NOTHING if before.id == after.id else CELL


@pytest.mark.parametrize(
    "base",
    [SPARSE, DENSE, MULTI, TARGET, FLOPS],
    ids=["sparse", "dense", "multi", "target", "flops"],
)
def test_what_each_key_changes(small_cell: SmallCell, base: list[str]) -> None:
    more: dict[str, Any] = dict((WALK, {})[base is not SPARSE])
    if base is SPARSE:
        more |= {key: (value, NOTHING) for key, value in HOW.items()}
    for of, entries in MORE:
        more |= entries if of is base else {}
    before = small_cell(*base)
    found = {
        key: changed(before, small_cell(*overriding(base, words(key, v))))
        for key, (v, _) in more.items()
    }
    assert found == {key: expected for key, (_, expected) in more.items()}


def runs() -> list[tuple[list[str], list[str], bool]]:
    """(base, overrides, whether portions change) of cells in which every key differs once.

    Keys that change the same stage first are tried together: whatever they do to the stages before
    it, and beside it, shows.
    """
    by_stage: dict[tuple[int, str], list[str]] = {}
    tried = [(SPARSE, WALK), *MORE]
    for number, (_, entries) in enumerate(tried):
        for key, (value, stage) in entries.items():
            by_stage.setdefault((number, stage), []).extend(words(key, value))
    found = [(tried[number][0], overrides, False) for (number, _), overrides in by_stage.items()]
    how = [word for key, value in HOW.items() for word in words(key, value)]
    # Sums in another order: their rounding counts for less where rows are not a few numbers long.
    return [*found, ([*SPARSE, "model=stand-in-128x1"], how, True)]


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, Any]]:
    """What was found in each stage, over all cells of this file."""
    return {}


@pytest.mark.parametrize(
    ("base", "overrides", "rounded"), runs(), ids=lambda value: str(value)[:60]
)
def test_a_name_stands_for_one_content(
    small_cell: SmallCell,
    tmp_path: Path,
    known: dict[str, dict[str, Any]],
    base: list[str],
    overrides: list[str],
    rounded: bool,
) -> None:
    base = [*base, "alarms=none"]  # of a few steps, whatever comes of them
    for one in (base, overriding(base, overrides)):
        if one == base and small_cell(*base).stages.train.name in known:
            continue
        root = tmp_path / str(len(one))
        for name, content in contents(done(small_cell(*one, f"paths.root={root}"))).items():
            loose = rounded and one != base
            assert name not in known or same(known[name], content, rounded=loose), name
            known.setdefault(name, content)
