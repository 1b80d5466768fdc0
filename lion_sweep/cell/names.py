"""What people call a cell, and which keys of the configuration tell it apart from others.

`Settings` are a configuration laid flat: 'recipe.lora.rank' leads to '4'.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING as NOTHING
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from omegaconf import MISSING

from lion_sweep.config.schema import AXES, Config
from lion_sweep.config.section import plain

Settings = Mapping[str, str]

# Portions, places and limits, which change no number, and the sizes that a plan counts with.
SILENT = (
    "budget.tolerance", "budget.confirm_gpu_hours", "teacher.audit",
    "id", "axes", "site", "tracking", "alarms", "paths", "plan", "status", "confirm",
    "evaluation.batch_tokens",
    "model.full_shape",
    "recipe.checkpoint_every", "recipe.flops_tolerance", "recipe.gradient_cache",
    "recipe.micro_batch_tokens",
)  # fmt: skip
UNSET = "null"
BY = "recipe.by."  # ahead of a recipe's key: the axes that its value goes by


def axes(config: Config) -> dict[str, str]:
    return {axis: getattr(config, axis).name for axis in AXES}


def label(config: Config) -> str:
    """Axes joined, as in 1b-sparse-cl."""
    return "-".join(axes(config).values())


def settings(config: Config | Mapping[str, Any]) -> Settings:
    """All that could change a number."""
    told = config if isinstance(config, Mapping) else plain(config)
    return dict(_leaves(told, ""))


def _leaves(value: Any, key: str) -> Iterable[tuple[str, str]]:
    if key in SILENT or key.endswith(".title"):
        return
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: UNSET}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def differing(cells: Sequence[Settings]) -> list[str]:
    """Keys, besides the axes, that some of the cells have another value for.

    Left out is what says nothing of its own: what an option that differs by its name brings along,
    what it takes from the recipe, and what a recipe has by the axes (`along`).
    """
    table = _Table.of(cells)
    named = [f"{axis}.name" for axis in AXES]
    several = [key for key in table.columns if key not in named and len(set(table[key])) > 1]
    return sorted(key for key in several if key.endswith(".name") or not table.follows(key))


def along(cells: Sequence[Settings]) -> dict[str, str]:
    """Keys that one recipe has several values of here, as it goes by the axes; and by which.

    So they tell no cells apart, and yet are a difference between them.
    """
    table, found = _Table.of(cells), {}
    for key in table.columns:
        if not key.startswith("recipe.") or key.startswith(BY):
            continue
        if not _follows(table[key], table.names("recipe")) and table.follows(key):
            found[key] = next(told for told in table[_by(key)] if told != UNSET)
    return found


def _by(key: str) -> str:
    """Where a recipe says by which axes it has a value of its own for the key."""
    return f"{BY}{key.removeprefix('recipe.')}"


@dataclass(frozen=True)
class _Table:
    """The values of every key, by cell."""

    columns: Mapping[str, list[str]]
    cells: int

    @classmethod
    def of(cls, cells: Sequence[Settings]) -> "_Table":
        keys = dict.fromkeys(key for cell in cells for key in cell)
        return cls(
            {key: [cell.get(key, _default(key)) for cell in cells] for key in keys}, len(cells)
        )

    def __getitem__(self, key: str) -> list[str]:
        return self.columns.get(key, [UNSET] * self.cells)

    def names(self, option: str) -> list[str]:
        """What the option is called in every cell; empty where it has no name."""
        return self.columns.get(f"{option}.name", [""] * self.cells)

    def follows(self, key: str) -> bool:
        """Whether a key says no more than names, axes and the recipe do."""
        if f"{key}.".startswith(BY):
            return True
        option = key.partition(".")[0]
        if option == "recipe":
            return _follows(self[key], self._recipes(key))
        recipe = [values for other, values in self.columns.items() if other.startswith("recipe.")]
        return _follows(self[key], self.names(option), [] if option == "seed" else recipe)

    def _recipes(self, key: str) -> list[object]:
        """Recipes by name, with the axes where all cells of one leave the key to it and these."""
        names, told = self.names("recipe"), self[_by(key)]
        said = {name for name, by in zip(names, told, strict=True) if by == UNSET}
        places = zip(names, *map(self.names, AXES), strict=True)
        return [place[0] if place[0] in said else place for place in places]


@cache
def _default(key: str) -> str:
    """What the schema has for a key, and a configuration of a version that had not this key means;
    UNSET where that is nothing."""
    section: Any = Config
    *sections, last = key.split(".")
    for name in sections:
        section = _section(get_type_hints(section).get(name)) if section else None
    known = {entry.name: entry.default for entry in fields(section)} if section else {}
    value = known.get(last, NOTHING)
    return UNSET if value in (NOTHING, MISSING) or is_dataclass(value) else _text(plain(value))


def _section(hint: Any) -> Any:
    """The class of a section, of one that may be None too; None where it is no section."""
    return next((found for found in (hint, *get_args(hint)) if is_dataclass(found)), None)


def _follows(values: list[str], names: Sequence[object], sources: Sequence[list[str]] = ()) -> bool:
    """Whether, among the cells with an option of one name, the values are all equal, or a source's.

    A source, such as `recipe.batch_size.cl`, is what the values of one option are taken from.
    """
    for name in set(names):
        group = [number for number, other in enumerate(names) if other == name]
        own = [values[number] for number in group]
        if len(set(own)) > 1 and own not in [[s[number] for number in group] for s in sources]:
            return False
    return True


def short(keys: Iterable[str]) -> dict[str, str]:
    """The fewest last words of each key that no other one ends in; of an option's name, the option.

    So `recipe.lora.rank` is 'rank', and `teacher.name` is 'teacher'.
    """
    ends = {key: f".{key.removesuffix('.name')}" for key in keys}
    found = {}
    for key, whole in ends.items():
        words = whole[1:].split(".")
        parts = (".".join(words[-count:]) for count in range(1, len(words) + 1))
        found[key] = next(p for p in parts if sum(e.endswith(f".{p}") for e in ends.values()) == 1)
    return found


def full_names(cells: Sequence[tuple[str, str, Settings]]) -> list[str]:
    """A name for each (label, id, settings) that no other one has.

    Cells of one label gain the keys that they differ in, and the end of their ids where they differ
    in none: their files do, or the code.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, (name, _, _) in enumerate(cells):
        groups[name].append(number)
    names = [name for name, _, _ in cells]
    for name, group in groups.items():
        keys = short(differing([cells[number][2] for number in group]))
        for number in group:
            told = cells[number][2]
            values = (f"{word}={told.get(key, UNSET)}" for key, word in keys.items())
            names[number] = " ".join([name, *values])
        equal = Counter(names[number] for number in group)
        for number in group:
            if equal[names[number]] > 1:
                names[number] += f" ({cells[number][1][-12:-6]})"
    return names
